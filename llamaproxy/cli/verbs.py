"""The words of the command line: every verb with its arguments and one line of help.

Owns the parser, and imports no verb.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

Parser: TypeAlias = argparse.ArgumentParser
Verbs: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"

SHELLS = ("bash", "zsh", "fish")
MOST_LINES = 100_000
"""Of the log, at once."""
MOST_CLIENTS = 4096
MOST_TOKENS = 1_000_000


def parser() -> Parser:
    root = argparse.ArgumentParser(
        prog="llamaproxy",
        description="One OpenAI-compatible address in front of every llama-server on the box.",
        epilog="`llamaproxy VERB --help` tells more of one.",
    )
    verbs = root.add_subparsers(dest="verb", required=True, metavar="VERB")
    _serve(verbs.add_parser("serve", help="run the gateway"))
    _init(verbs.add_parser("init", help="write a configuration file with every key, its default and its meaning"))
    check_config = verbs.add_parser("check-config", help="validate the configuration and print what is effective")
    _config_option(check_config)
    _json_option(check_config)
    _config(verbs.add_parser("config", help="show the configuration, and change models in its file"))
    doctor = verbs.add_parser("doctor", help="look for what would keep the gateway from working, and say what to do")
    _config_option(doctor)
    _json_option(doctor)
    _add_shows(verbs)
    _add_actions(verbs)
    _logs(verbs.add_parser("logs", help="lines of the running gateway's log and its engines'"))
    reload = verbs.add_parser("reload", help="have the running gateway read its configuration again")
    _client_options(reload)
    _keys(verbs.add_parser("keys", help="make, list and revoke API keys"))
    health = verbs.add_parser("health", help="whether the gateway lives: 0 or 1, for a container's HEALTHCHECK")
    _client_options(health)
    _pull(verbs.add_parser("pull", help="download a model from the Hugging Face hub into catalog.models_dir"))
    _bench(verbs.add_parser("bench", help="load-test an OpenAI-compatible server, or two beside each other"))
    _service(verbs.add_parser("service", help="have systemd or launchd run the gateway for this user"))
    completion = verbs.add_parser("completion", help="print a shell's completion of these words")
    completion.add_argument("shell", choices=SHELLS)
    version = verbs.add_parser("version", help="print the version")
    _json_option(version)
    return root


def _serve(serve: Parser) -> None:
    _config_option(serve)
    serve.add_argument("--host", help="address to listen on, instead of server.host")
    serve.add_argument("--port", type=int, help="port to listen on, instead of server.port")


def _pull(pull: Parser) -> None:
    pull.add_argument("reference", metavar="OWNER/REPO[:QUANT]", help="a repository, and which quantisation [Q4_K_M]")
    pull.add_argument("--list", action="store_true", help="say which there are, and whether they fit this machine")
    pull.add_argument("--dry-run", action="store_true", help="say what would be downloaded, and download nothing")
    pull.add_argument("--name", help="what the model shall be called [as its file]")
    pull.add_argument("--revision", default="main", help="branch, tag or commit [main]")
    pull.add_argument("--dir", type=Path, metavar="FOLDER", help="where models are [catalog.models_dir]")
    pull.add_argument("--no-mmproj", action="store_true", help="leave the projector for images and sound out")
    _client_options(pull)
    _json_option(pull)


def _bench(bench: Parser) -> None:
    bench.add_argument("url", nargs="?", metavar="URL", help="the server [$LLAMAPROXY_URL, else as configured]")
    bench.add_argument("--against", metavar="URL", help="another server, asked in turn with the first")
    bench.add_argument("--model", metavar="NAME", help="[the only one there is]")
    bench.add_argument("--against-model", metavar="NAME", help="of the other server [the same]")
    bench.add_argument("--key-file", type=Path, metavar="FILE", help="with the API key [$LLAMAPROXY_API_KEY]")
    bench.add_argument("--against-key-file", type=Path, metavar="FILE", help="with the other server's key [none]")
    clients, lengths = _numbers(1, MOST_CLIENTS), _numbers(1, MOST_TOKENS)
    bench.add_argument("--concurrency", type=clients, default=[1, 2, 4, 8], metavar="N,…", help="clients [1,2,4,8]")
    bench.add_argument("--prompt-tokens", type=lengths, default=[128], metavar="N,…", help="about so many [128]")
    bench.add_argument("--output-tokens", type=lengths, default=[64], metavar="N,…", help="of each answer [64]")
    bench.add_argument("--requests", type=_number(1, 100_000), default=1000, metavar="N", help="most in a step [1000]")
    bench.add_argument(
        "--seconds", type=_number(1, 86_400), default=10, metavar="N", help="no request begins later in a step [10]"
    )
    bench.add_argument("--timeout", type=_number(1, 86_400), default=120, metavar="N", help="of a request [120]")
    bench.add_argument("--warmup", type=_number(0, 1000), default=1, metavar="N", help="requests not counted [1]")
    bench.add_argument("--no-stream", action="store_true", help="ask for answers in one piece")
    bench.add_argument("--may-stop", action="store_true", help="let the model end its answers itself")
    bench.add_argument("--svg", type=Path, metavar="FILE", help="draw what was measured")
    _config_option(bench)
    _json_option(bench)


def _number(least: int, most: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        """Raises ArgumentTypeError."""
        if not (text.isascii() and text.isdecimal() and len(text) <= 9 and least <= int(text) <= most):
            raise argparse.ArgumentTypeError(f"not a number from {least} to {most}")
        return int(text)

    return number


def _numbers(least: int, most: int) -> Callable[[str], list[int]]:
    one = _number(least, most)

    def numbers(text: str) -> list[int]:
        """Raises ArgumentTypeError. None twice."""
        return list(dict.fromkeys(one(part) for part in text.split(",")))

    return numbers


def _init(init: Parser) -> None:
    init.add_argument("file", nargs="?", type=Path, default=Path("llamaproxy.toml"), help="[llamaproxy.toml]")
    init.add_argument(
        "--from",
        dest="source",
        type=Path,
        metavar="FILE",
        help="take over llama-server's model presets (.ini) or a llama-swap configuration (.yaml)",
    )
    init.add_argument("--force", action="store_true", help="overwrite an existing file")


def _add_shows(verbs: Verbs) -> None:
    for verb, told in (
        ("status", "what the running gateway does: its health, requests and models"),
        ("ps", "models that have a process"),
        ("models", "all models"),
    ):
        show = verbs.add_parser(verb, help=told)
        show.set_defaults(module="show")
        show.add_argument("--watch", action="store_true", help="again every two seconds; with --json a line each time")
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


def _logs(logs: Parser) -> None:
    logs.add_argument("name", nargs="?", default="all", metavar="NAME", help="a model, or `all` [all]")
    logs.add_argument("--tail", type=_number(0, MOST_LINES), default=100, metavar="N", help="the last N lines [100]")
    logs.add_argument("--follow", "-f", action="store_true", help="and those that come, until interrupted")
    levels = ("debug", "info", "warning", "error")
    logs.add_argument("--level", choices=levels, default="debug", help="of this level or worse [debug]")
    _client_options(logs)
    logs.add_argument("--json", action="store_true", help="for programs: one object a line")


def _config(config: Parser) -> None:
    actions = config.add_subparsers(dest="action", required=True, metavar="ACTION")
    show = actions.add_parser("show", help="every value that is effective, secrets masked")
    show.add_argument("--origin", action="store_true", help="and where it comes from")
    list_ = actions.add_parser("list", help="the models that are configured")
    for action in (show, list_):
        _config_option(action)
        _json_option(action)
    add = actions.add_parser("add", help="put a model into the file")
    add.add_argument("name", help="the model's name")
    add.add_argument("settings", nargs="+", metavar="KEY=VALUE", help="such as path=/models/qwen.gguf ctx_size=8192")
    update = actions.add_parser("update", help="change settings in the file")
    update.add_argument("name", help="the model's name, or with --section that of a section")
    update.add_argument("settings", nargs="*", metavar="KEY=VALUE", help='such as ttl=10m aliases=\'["a", "b"]\'')
    update.add_argument("--unset", action="append", default=[], metavar="KEY", help="have the default again")
    update.add_argument("--section", action="store_true", help="NAME is a section, such as server or limits")
    remove = actions.add_parser("remove", help="take a model out of the file")
    remove.add_argument("name", help="the model's name")
    for action in (add, update, remove):
        action.add_argument("--dry-run", action="store_true", help="print what would change, and change nothing")
        _config_option(action)


def _keys(keys: Parser) -> None:
    actions = keys.add_subparsers(dest="action", required=True, metavar="ACTION")
    create = actions.add_parser("create", help="print a new key, once; the running gateway keeps its hash")
    create.add_argument("name", help="the key's name in configuration and reports")
    create.add_argument("--models", metavar="A,B", help="models it may use, by name or alias [all]")
    create.add_argument("--rpm", type=int, metavar="N", help="requests a minute")
    create.add_argument("--tpm", type=int, metavar="N", help="tokens a minute, of prompts and answers")
    create.add_argument("--concurrency", type=int, metavar="N", help="requests at once")
    create.add_argument("--priority", type=int, metavar="N", help="higher ones go first in the queue")
    create.add_argument("--expires", metavar="WHEN", help='a time from now such as "30d", or a date with time and zone')
    create.add_argument("--admin", action="store_true", help="it may use /api, load and unload models")
    create.add_argument("--offline", action="store_true", help="ask no gateway; print lines for the configuration")
    list_ = actions.add_parser("list", help="the keys of the running gateway")
    revoke = actions.add_parser("revoke", help="have the running gateway refuse a key from now on")
    revoke.add_argument("name", help="the key's name")
    usage = actions.add_parser("usage", help="requests and tokens of each key")
    for action in (create, list_, revoke, usage):
        _client_options(action)
    for action in (list_, usage):
        _json_option(action)


def _service(service: Parser) -> None:
    actions = service.add_subparsers(dest="action", required=True, metavar="ACTION")
    install = actions.add_parser("install", help="write the unit or agent, and have it run now and at every login")
    _config_option(install)
    uninstall = actions.add_parser("uninstall", help="stop it and take it away")
    _json_option(actions.add_parser("status", help="whether it is installed, and whether it runs"))
    for action in (install, uninstall):
        action.add_argument(
            "--dry-run", action="store_true", help="print what would be written and run, and do nothing"
        )


def _json_option(verb: Parser) -> None:
    verb.add_argument("--json", action="store_true", help="for programs")


def _config_option(verb: Parser) -> None:
    verb.add_argument("--config", type=Path, metavar="FILE", help="configuration file")


def _client_options(verb: Parser) -> None:
    _config_option(verb)
    verb.add_argument("--url", help="address of the gateway [$LLAMAPROXY_URL, else as configured]")
