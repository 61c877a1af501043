"""The command line: one module per verb, imported only when its verb is used.

Owns the parser and the exit codes. stdout is data, stderr is talk.
"""

import argparse
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_NOT_FOUND = 4
EXIT_CONFLICT = 5
EXIT_DENIED = 6
EXIT_TIMEOUT = 7
EXIT_UNAVAILABLE = 69
"""No gateway answers. Source of 69 and 78: sysexits.h."""
EXIT_CONFIGURATION = 78
EXIT_INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb and return the exit code: 0, 1 failed, 2 usage, 69 no gateway, 78 configuration, 130 interrupted."""
    arguments = parser().parse_args(argv)
    module = getattr(arguments, "module", arguments.verb.replace("-", "_"))
    verb = importlib.import_module(f"llamaproxy.cli.{module}")
    try:
        code: int = verb.run(arguments)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    return code


def parser() -> argparse.ArgumentParser:
    root = argparse.ArgumentParser(
        prog="llamaproxy", description="One OpenAI-compatible address in front of every llama-server on the box."
    )
    verbs = root.add_subparsers(dest="verb", required=True, metavar="VERB")
    serve = verbs.add_parser("serve", help="run the gateway")
    _config_option(serve)
    serve.add_argument("--host", help="address to listen on, instead of server.host")
    serve.add_argument("--port", type=int, help="port to listen on, instead of server.port")
    check = verbs.add_parser("check-config", help="validate the configuration and print what is effective")
    _config_option(check)
    init = verbs.add_parser("init", help="write a configuration file with every key, its default and its meaning")
    init.add_argument("file", nargs="?", type=Path, default=Path("llamaproxy.toml"), help="[llamaproxy.toml]")
    init.add_argument(
        "--from",
        dest="source",
        type=Path,
        metavar="FILE",
        help="take over llama-server's model presets (.ini) or a llama-swap configuration (.yaml)",
    )
    init.add_argument("--force", action="store_true", help="overwrite an existing file")
    _keys_verb(verbs.add_parser("keys", help="make, list and revoke API keys"))
    reload = verbs.add_parser("reload", help="have the running gateway read its configuration again")
    _client_options(reload)
    _add_shows(verbs)
    _add_actions(verbs)
    _pull_verb(verbs.add_parser("pull", help="download a model from the Hugging Face hub into catalog.models_dir"))
    verbs.add_parser("version", help="print the version")
    return root


Verbs: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def _add_shows(verbs: Verbs) -> None:
    for verb, told in (
        ("status", "what the running gateway does: its health, requests and models"),
        ("ps", "models that have a process"),
        ("models", "all models"),
    ):
        show = verbs.add_parser(verb, help=told)
        show.set_defaults(module="show")
        _client_options(show)
        _json_option(show)


def _add_actions(verbs: Verbs) -> None:
    for verb, told in (
        ("start", "start models"),
        ("stop", "stop models, once their requests have ended"),
        ("restart", "give models a new process, once their requests have ended"),
        ("pin", "have models never evicted, until the next reload"),
        ("unpin", "have models evicted like others, until the next reload"),
    ):
        act = verbs.add_parser(verb, help=told)
        act.set_defaults(module="act")
        act.add_argument("names", nargs="+", metavar="NAME", help="a model, or `all`")
        act.add_argument("--dry-run", action="store_true", help="say what would be asked for, and ask for nothing")
        _client_options(act)
        _json_option(act)


def _pull_verb(pull: argparse.ArgumentParser) -> None:
    pull.add_argument("reference", metavar="OWNER/REPO[:QUANT]", help="a repository, and which quantisation [Q4_K_M]")
    pull.add_argument("--list", action="store_true", help="say which there are, and whether they fit this machine")
    pull.add_argument("--dry-run", action="store_true", help="say what would be downloaded, and download nothing")
    pull.add_argument("--name", help="what the model shall be called [as its file]")
    pull.add_argument("--revision", default="main", help="branch, tag or commit [main]")
    pull.add_argument("--dir", type=Path, metavar="FOLDER", help="where models are [catalog.models_dir]")
    pull.add_argument("--no-mmproj", action="store_true", help="leave the projector for images and sound out")
    _client_options(pull)
    _json_option(pull)


def _json_option(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--json", action="store_true", help="for programs")


def _keys_verb(keys: argparse.ArgumentParser) -> None:
    actions = keys.add_subparsers(dest="action", required=True, metavar="ACTION")
    create = actions.add_parser("create", help="print a new key, once; the running gateway keeps its hash")
    create.add_argument("name", help="the key's name in configuration and reports")
    create.add_argument("--models", metavar="A,B", help="models it may use, by name or alias [all]")
    create.add_argument("--rpm", type=int, metavar="N", help="requests a minute")
    create.add_argument("--tpm", type=int, metavar="N", help="tokens a minute, of prompts and answers")
    create.add_argument("--concurrency", type=int, metavar="N", help="requests at once")
    create.add_argument("--priority", type=int, metavar="N", help="kept; the scheduler ignores it yet")
    create.add_argument("--expires", metavar="WHEN", help='a time from now such as "30d", or a date with time and zone')
    create.add_argument("--admin", action="store_true", help="it may use /api, load and unload models")
    create.add_argument("--offline", action="store_true", help="ask no gateway; print lines for the configuration")
    list_ = actions.add_parser("list", help="the keys of the running gateway")
    revoke = actions.add_parser("revoke", help="have the running gateway refuse a key from now on")
    revoke.add_argument("name", help="the key's name")
    usage = actions.add_parser("usage", help="requests and tokens of each key")
    for action in (create, list_, revoke, usage):
        _client_options(action)


def _config_option(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--config", type=Path, metavar="FILE", help="configuration file")


def _client_options(verb: argparse.ArgumentParser) -> None:
    _config_option(verb)
    verb.add_argument("--url", help="address of the gateway [$LLAMAPROXY_URL, else as configured]")


def complain(message: str) -> None:
    """One line for each fault, on stderr."""
    for line in message.splitlines():
        print(f"llamaproxy: {line}", file=sys.stderr)
