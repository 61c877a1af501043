#!/usr/bin/env python3
"""A menu of models for SwiftBar or xbar on macOS: put this file into the plugin folder, and make it executable.

Shows what `llamaproxy status --json` says, every ten seconds. It needs `llamaproxy` on PATH, or in one of the places
where it is commonly installed; `$LLAMAPROXY_URL` and `$LLAMAPROXY_API_KEY` say where and who, where that is needed.
"""

import json
import os
import shutil
import subprocess

MARKS = {"ready": "🟢", "starting": "🟡", "draining": "🟡", "stopping": "🟡"}
PLACES = ("~/.local/bin", "/opt/homebrew/bin", "/usr/local/bin")


def main():
    path = os.pathsep.join([os.environ.get("PATH", ""), *map(os.path.expanduser, PLACES)])
    program = shutil.which("llamaproxy", path=path)
    if not program:
        return "🦙 ?\n---\nllamaproxy is not installed"
    done = subprocess.run([program, "status", "--json"], capture_output=True, text=True, timeout=30)
    if done.returncode:
        return "🦙 !\n---\n" + plain(done.stderr.strip() or f"exit {done.returncode}")
    return menu(json.loads(done.stdout), program)


def menu(told, program):
    models = told["models"]
    running = [model for model in models if model["state"] != "stopped"]
    healthy = told["health"]["status"] == "ok"
    lines = [f"🦙 {len(running)}{'' if healthy else ' ⚠️'}", "---"]
    lines.append(plain(f"llamaproxy {told['health']['version']}: {told['health']['status']}"))
    for model in models:
        name, state = model["name"], model["state"]
        verb = "start" if state == "stopped" else "stop"
        # The name is one parameter, without a shell. What would end it has no place in a model's name.
        act = f'shell="{program}" param1={verb} param2="{name}" terminal=false refresh=true'
        busy = f", {model['in_flight']} in flight" if model["in_flight"] else ""
        lines.append(f"{MARKS.get(state, '⚪️')} {plain(name)}: {state}{busy} | {act}")
    return "\n".join(lines)


def plain(text):
    """One line in which nothing is taken for a parameter."""
    return " ".join(text.replace("|", "¦").split())


if __name__ == "__main__":
    print(main())
