"""Which llama-server arguments a model may be given.

Pure. A list of what is allowed, because a new llama-server may bring a new way to run commands or to read files;
and names for what is refused on purpose, so that the reason can be told. `engine.allow_unsafe_args` lifts both.
"""

import re
from collections.abc import Iterator, Sequence

_NUMBER = re.compile(r"-\d|-\.\d")

_OWN = "the gateway sets it itself"
_TYPED = "use the model's own setting `{}`"
_DANGEROUS = "it gives the engine's clients access to this machine"
_DOWNLOAD = "models come from files here, not from a download at start"
_REFUSED: dict[str, str] = {
    **dict.fromkeys(("-m", "--model"), _TYPED.format("path")),
    **dict.fromkeys(("-mm", "--mmproj"), _TYPED.format("mmproj")),
    **dict.fromkeys(("-a", "--alias"), _TYPED.format("aliases")),
    **dict.fromkeys(("--host", "--port", "--reuse-port", "--metrics", "--slots", "--no-slots"), _OWN),
    **dict.fromkeys(("--slot-save-path", "--api-key", "--api-key-file", "--api-prefix", "--log-file"), _OWN),
    **dict.fromkeys(("--ssl-key-file", "--ssl-cert-file", "--models-dir", "--models-preset", "--models-max"), _OWN),
    **dict.fromkeys(("--models-autoload", "--no-models-autoload", "--log-disable"), _OWN),
    **dict.fromkeys(
        ("--tools", "--tools-runtime", "-ag", "--agent", "--ui-mcp-proxy", "--webui-mcp-proxy"), _DANGEROUS
    ),
    **dict.fromkeys(("--mcp-servers-config", "--mcp-servers-json", "--rpc", "--path", "--media-path"), _DANGEROUS),
    **dict.fromkeys(("--cors-origins", "--cors-methods", "--cors-headers", "--cors-credentials"), _DANGEROUS),
    **dict.fromkeys(("--props", "--ui-config-file", "--webui-config-file", "--video-ffmpeg-dir"), _DANGEROUS),
    **dict.fromkeys(("-mu", "--model-url", "-dr", "--docker-repo", "-hf", "-hfr", "--hf-repo"), _DOWNLOAD),
    **dict.fromkeys(("-hff", "--hf-file", "-hft", "--hf-token", "-mmu", "--mmproj-url"), _DOWNLOAD),
    **dict.fromkeys(("-hfd", "-hfrd", "--hf-repo-draft", "--spec-draft-hf"), _DOWNLOAD),
}

_ALLOWED = frozenset(
    """
    -t --threads -tb --threads-batch -C --cpu-mask -Cr --cpu-range --cpu-strict --prio --poll -Cb --cpu-mask-batch
    -Crb --cpu-range-batch --cpu-strict-batch --prio-batch --poll-batch -c --ctx-size -n --predict --n-predict -b
    --batch-size -ub --ubatch-size --keep --swa-full -fa --flash-attn --perf --no-perf -e --escape --no-escape
    --rope-scaling --rope-scale --rope-freq-base --rope-freq-scale --yarn-orig-ctx --yarn-ext-factor
    --yarn-attn-factor --yarn-beta-slow --yarn-beta-fast -kvo --kv-offload -nkvo --no-kv-offload --repack -nr
    --no-repack --no-host -ctk --cache-type-k -ctv --cache-type-v -dt --defrag-thold --mlock --mmap --no-mmap -lm
    --load-mode -lzm --lazy-mode --numa -dev --device -ot --override-tensor -cmoe --cpu-moe -ncmoe --n-cpu-moe
    -ncffn --n-cpu-ffn -ngl --gpu-layers --n-gpu-layers -sm --split-mode -ts --tensor-split -mg --main-gpu -fit
    --fit -fitt --fit-target -fitc --fit-ctx --check-tensors --override-kv --op-offload --no-op-offload --lora
    --lora-scaled --lora-init-without-apply --control-vector --control-vector-scaled --control-vector-layer-range
    --log-jsonl --no-log-jsonl --log-colors -v --verbose --log-verbose -lv --verbosity --log-verbosity --offline
    --log-prefix --no-log-prefix --log-timestamps --no-log-timestamps --samplers -s --seed --sampler-seq
    --sampling-seq --ignore-eos --temp --temperature --top-k --top-p --min-p --top-nsigma --top-n-sigma
    --xtc-probability --xtc-threshold --typical --typical-p --repeat-last-n --repeat-penalty --presence-penalty
    --frequency-penalty --dry-multiplier --dry-base --dry-allowed-length --dry-penalty-last-n --dry-sequence-breaker
    --adaptive-target --adaptive-decay --dynatemp-range --dynatemp-exp --mirostat --mirostat-lr --mirostat-ent -l
    --logit-bias --grammar -j --json-schema -bs --backend-sampling -td --threads-draft -tbd --threads-batch-draft
    -md --model-draft -ngld --gpu-layers-draft --n-gpu-layers-draft -devd --device-draft -ctkd --cache-type-k-draft
    -ctvd --cache-type-v-draft -otd --override-tensor-draft -cmoed --cpu-moe-draft -ncmoed --n-cpu-moe-draft
    --draft-p-split --draft-p-min -lcs --lookup-cache-static -lcd --lookup-cache-dynamic --kv-unified-per-slot
    -ctxcp --ctx-checkpoints --swa-checkpoints -cms --checkpoint-min-step -cram --cache-ram -kvu --kv-unified
    -no-kvu --no-kv-unified --cache-idle-slots --no-cache-idle-slots --context-shift --no-context-shift -r
    --reverse-prompt -sp --special --warmup --no-warmup --spm-infill --pooling -np --parallel -cb --cont-batching
    -nocb --no-cont-batching --mmproj-auto --no-mmproj --no-mmproj-auto --mmproj-offload --no-mmproj-offload -mmdev
    --mmproj-device --image-min-tokens --image-max-tokens --mtmd-batch-max-tokens --video-fps
    --video-timestamp-interval --tags --embd-normalize --ui-config --webui-config --ui --webui --no-ui --no-webui
    -no-ag --no-agent --embedding --embeddings --rerank --reranking --chat-template-kwargs -to --timeout
    --sse-ping-interval --threads-http --cache-prompt --no-cache-prompt --cache-reuse --jinja --no-jinja
    --reasoning-format -rea --reasoning --reasoning-effort --reasoning-budget --reasoning-budget-message
    --reasoning-preserve --no-reasoning-preserve --chat-template --chat-template-file --skip-chat-parsing
    --no-skip-chat-parsing --prefill-assistant --no-prefill-assistant -sps --slot-prompt-similarity
    --sleep-idle-seconds
    """.split()
)
_ALLOWED_PREFIXES = ("--spec-",)


def faults(args: Sequence[str]) -> Iterator[str]:
    """One sentence for each argument that is not allowed; values of flags are not judged."""
    for argument in args:
        if not argument.startswith("-") or _NUMBER.match(argument):
            continue
        flag = _spelled_out(argument.split("=", 1)[0])
        if reason := _REFUSED.get(flag):
            yield f"the argument {flag} is refused: {reason}"
        elif flag not in _ALLOWED and not flag.startswith(_ALLOWED_PREFIXES):
            yield f"the argument {flag} is not on the list of allowed ones (engine.allow_unsafe_args lifts the list)"


def _spelled_out(flag: str) -> str:
    """llama-server takes underscores for dashes in long flags: what is refused would pass under its other name."""
    return flag.replace("_", "-") if flag.startswith("--") else flag
