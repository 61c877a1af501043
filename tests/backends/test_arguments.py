"""llamaproxy.backends.arguments: what passes, what is refused, and what the operator is told."""

import pytest

from llamaproxy.backends.arguments import faults

OWN = "the gateway sets it itself"
DANGEROUS = "it gives the engine's clients access to this machine"
DOWNLOAD = "models come from files here, not from a download at start"

REFUSED = {
    "-m": "use the model's own setting `path`",
    "--model": "use the model's own setting `path`",
    "-mm": "use the model's own setting `mmproj`",
    "--mmproj": "use the model's own setting `mmproj`",
    "-a": "use the model's own setting `aliases`",
    "--alias": "use the model's own setting `aliases`",
    **dict.fromkeys(
        """
        --host --port --reuse-port --metrics --slots --no-slots --slot-save-path --api-key --api-key-file --api-prefix
        --log-file --log-disable --ssl-key-file --ssl-cert-file --models-dir --models-preset --models-max
        --models-autoload --no-models-autoload
        """.split(),
        OWN,
    ),
    **dict.fromkeys(
        """
        --tools --tools-runtime -ag --agent --ui-mcp-proxy --webui-mcp-proxy --mcp-servers-config --mcp-servers-json
        --rpc --path --media-path --cors-origins --cors-methods --cors-headers --cors-credentials --props
        --ui-config-file --webui-config-file --video-ffmpeg-dir
        """.split(),
        DANGEROUS,
    ),
    **dict.fromkeys(
        """
        -mu --model-url -dr --docker-repo -hf -hfr --hf-repo -hff --hf-file -hft --hf-token -mmu --mmproj-url -hfd
        -hfrd --hf-repo-draft --spec-draft-hf
        """.split(),
        DOWNLOAD,
    ),
}


def fault(*args: str) -> str:
    [only] = faults(args)
    return only


@pytest.mark.parametrize("flag", REFUSED)
def test_what_is_refused_is_named_with_its_reason(flag: str) -> None:
    assert fault(flag) == f"the argument {flag} is refused: {REFUSED[flag]}"
    assert fault(flag, "value") == fault(flag)
    assert fault(f"{flag}=value") == fault(flag)


@pytest.mark.parametrize("flag", [flag for flag in REFUSED if flag.startswith("--")])
def test_llama_server_takes_underscores_for_dashes_and_so_does_the_list(flag: str) -> None:
    assert fault(flag[:2] + flag[2:].replace("-", "_")) == fault(flag)


def test_a_name_that_is_only_half_misspelt_does_not_slip_through_a_family_of_allowed_ones() -> None:
    assert fault("--spec-draft_hf") == f"the argument --spec-draft-hf is refused: {DOWNLOAD}"
    assert fault("--spec_draft_hf=user/model").endswith(DOWNLOAD)


@pytest.mark.parametrize("flag", ["--new-in-the-next-version", "--grammar-file", "-x", "-", "--", "--log-prompts-dir"])
def test_what_nobody_has_judged_is_refused_too(flag: str) -> None:
    expected = f"the argument {flag} is not on the list of allowed ones (engine.allow_unsafe_args lifts the list)"
    assert fault(flag) == expected


@pytest.mark.parametrize("flag", ["-hfx", "--spec", "-TOOLS", "--CTX-SIZE", "-no_kvu", " --ctx-size", "-ctx-size"])
def test_names_are_compared_whole_and_case_counts(flag: str) -> None:
    assert list(faults([flag])) == ([] if flag.startswith(" ") else [fault(flag)])


@pytest.mark.parametrize(
    "args",
    [
        [],
        ["-c", "4096", "--flash-attn", "on", "-ngl", "99", "--no-mmap", "--jinja"],
        ["--ctx-size=4096"],
        ["--ctx_size", "4096"],
        ["--spec-type", "ngram-simple", "--spec-draft-n-max", "8"],
        ["--chat-template-kwargs", '{"tools": "--tools"}'],
    ],
)
def test_what_tunes_the_engine_passes(args: list[str]) -> None:
    assert list(faults(args)) == []


@pytest.mark.parametrize("value", ["-1", "-0.5", "-.5", "-1e-3", "-100,5"])
def test_a_negative_number_is_a_value(value: str) -> None:
    assert list(faults(["--temp", value])) == []


@pytest.mark.parametrize("value", ["/etc/passwd", "http://example.com", "tools", "$(reboot)", "", "--tools"[2:]])
def test_values_are_not_judged(value: str) -> None:
    assert list(faults(["--lora", value])) == []
    assert list(faults([f"--lora={value}"])) == []
    assert list(faults([f"--lora=--tools={value}"])) == []


def test_every_fault_is_told_in_order() -> None:
    told = list(faults(["--tools", "all", "-c", "1", "--nonsense", "--port=1"]))
    assert [sentence.split()[2] for sentence in told] == ["--tools", "--nonsense", "--port"]
