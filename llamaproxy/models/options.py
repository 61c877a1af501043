"""What llama-server's options are called, and how many values follow each.

Owns the names: as arguments, as keys of a preset file, as variables of the environment. Source: `llama-server --help`
of b11434, and a few options that older builds had. Must not say what an option means for a model of ours (`draft`
does), nor which are allowed (`backends.arguments` does).
"""

from dataclasses import dataclass

_WITH_VALUE = """
    -t --threads, -tb --threads-batch, -C --cpu-mask, -Cr --cpu-range, --cpu-strict, --prio, --poll,
    -Cb --cpu-mask-batch, -Crb --cpu-range-batch, --cpu-strict-batch, --prio-batch, --poll-batch, -c --ctx-size,
    -n --predict --n-predict, -b --batch-size, -ub --ubatch-size, --keep, -fa --flash-attn, --rope-scaling,
    --rope-scale, --rope-freq-base, --rope-freq-scale, --yarn-orig-ctx, --yarn-ext-factor, --yarn-attn-factor,
    --yarn-beta-slow, --yarn-beta-fast, -ctk --cache-type-k, -ctv --cache-type-v, -dt --defrag-thold, --rpc,
    -lm --load-mode, -lzm --lazy-mode, --numa, -dev --device, -ot --override-tensor, -ncmoe --n-cpu-moe,
    -ncffn --n-cpu-ffn, -ngl --gpu-layers --n-gpu-layers, -sm --split-mode, -ts --tensor-split, -mg --main-gpu,
    -fit --fit, -fitt --fit-target, -fitc --fit-ctx, --override-kv, --lora, --lora-scaled, --control-vector,
    --control-vector-scaled, -m --model, -mu --model-url, -dr --docker-repo, -hf -hfr --hf-repo, -hff --hf-file,
    -hft --hf-token, --log-file, --log-colors, -lv --verbosity --log-verbosity,
    --spec-draft-type-k -ctkd --cache-type-k-draft, --spec-draft-type-v -ctvd --cache-type-v-draft, --samplers,
    -s --seed, --sampler-seq --sampling-seq, --temp --temperature, --top-k, --top-p, --min-p,
    --top-nsigma --top-n-sigma, --xtc-probability, --xtc-threshold, --typical --typical-p, --repeat-last-n,
    --repeat-penalty, --presence-penalty, --frequency-penalty, --dry-multiplier, --dry-base, --dry-allowed-length,
    --dry-penalty-last-n, --dry-sequence-breaker, --adaptive-target, --adaptive-decay, --dynatemp-range,
    --dynatemp-exp, --mirostat, --mirostat-lr, --mirostat-ent, -l --logit-bias, --grammar, --grammar-file,
    -j --json-schema, -jf --json-schema-file, --spec-draft-hf -hfd -hfrd --hf-repo-draft,
    --spec-draft-threads -td --threads-draft, --spec-draft-threads-batch -tbd --threads-batch-draft,
    --spec-draft-cpu-mask -Cd --cpu-mask-draft, --spec-draft-cpu-range -Crd --cpu-range-draft,
    --spec-draft-cpu-strict --cpu-strict-draft, --spec-draft-prio --prio-draft, --spec-draft-poll --poll-draft,
    --spec-draft-cpu-mask-batch -Cbd --cpu-mask-batch-draft, --spec-draft-cpu-strict-batch --cpu-strict-batch-draft,
    --spec-draft-prio-batch --prio-batch-draft, --spec-draft-poll-batch --poll-batch-draft,
    --spec-draft-override-tensor -otd --override-tensor-draft,
    --spec-draft-n-cpu-moe --spec-draft-ncmoe -ncmoed --n-cpu-moe-draft, --spec-draft-n-max, --spec-draft-n-min,
    --spec-synth-len, --spec-synth-rates, --spec-draft-p-split --draft-p-split, --spec-draft-p-min --draft-p-min,
    --spec-draft-sampling, --spec-draft-device -devd --device-draft,
    --spec-draft-ngl -ngld --gpu-layers-draft --n-gpu-layers-draft, --spec-draft-model -md --model-draft, --spec-type,
    --spec-ngram-mod-n-min, --spec-ngram-mod-n-max, --spec-ngram-mod-n-match, --spec-ngram-simple-size-n,
    --spec-ngram-simple-size-m, --spec-ngram-simple-min-hits, --spec-ngram-map-k-size-n, --spec-ngram-map-k-size-m,
    --spec-ngram-map-k-min-hits, --spec-ngram-map-k4v-size-n, --spec-ngram-map-k4v-size-m,
    --spec-ngram-map-k4v-min-hits, --draft --draft-n --draft-max, --draft-min --draft-n-min, --spec-ngram-size-n,
    --spec-ngram-size-m, --spec-ngram-min-hits, -lcs --lookup-cache-static, -lcd --lookup-cache-dynamic,
    --kv-unified-per-slot, -ctxcp --ctx-checkpoints --swa-checkpoints, -cms --checkpoint-min-step, -cram --cache-ram,
    -r --reverse-prompt, --pooling, -np --parallel, -mm --mmproj, -mmu --mmproj-url, -mmdev --mmproj-device,
    --image-min-tokens, --image-max-tokens, --mtmd-batch-max-tokens, --video-fps, --video-timestamp-interval,
    --video-ffmpeg-dir, -a --alias, --tags, --embd-normalize, --host, --port, --path, --cors-origins, --cors-methods,
    --cors-headers, --api-prefix, --ui-config --webui-config, --ui-config-file --webui-config-file, --tools,
    --tools-runtime, --mcp-servers-config, --mcp-servers-json, --api-key, --api-key-file, --ssl-key-file,
    --ssl-cert-file, --chat-template-kwargs, -to --timeout, --sse-ping-interval, --threads-http, --cache-reuse,
    --slot-save-path, --media-path, --models-dir, --models-preset, --models-max, --reasoning-format, -rea --reasoning,
    --reasoning-effort, --reasoning-budget, --reasoning-budget-message, --chat-template, --chat-template-file,
    -sps --slot-prompt-similarity, --sleep-idle-seconds, --log-prompts-dir
"""
_WITH_TWO_VALUES = "--control-vector-layer-range"
_WITHOUT_VALUE = """
    --swa-full, --no-host, -cmoe --cpu-moe, --check-tensors, --log-disable, -v --verbose --log-verbose, --offline,
    --ignore-eos, -bs --backend-sampling, --spec-draft-cpu-moe -cmoed --cpu-moe-draft, -sp --special, --spm-infill,
    --reuse-port, --embedding --embeddings, --rerank --reranking, --metrics, --props, --lora-init-without-apply,
    --embd-gemma-default, --fim-qwen-1.5b-default, --fim-qwen-3b-default, --fim-qwen-7b-default, --fim-qwen-7b-spec,
    --fim-qwen-14b-spec, --fim-qwen-30b-default, --gpt-oss-20b-default, --gpt-oss-120b-default,
    --vision-gemma-4b-default, --vision-gemma-12b-default, --spec-default, --mlock
"""
_SWITCHES = """
    --perf | --no-perf, -e --escape | --no-escape, -kvo --kv-offload | -nkvo --no-kv-offload,
    --repack | -nr --no-repack, --op-offload | --no-op-offload, --log-jsonl | --no-log-jsonl,
    --log-prefix | --no-log-prefix, --log-timestamps | --no-log-timestamps, --mmap | --no-mmap,
    --spec-draft-backend-sampling | --no-spec-draft-backend-sampling, -kvu --kv-unified | -no-kvu --no-kv-unified,
    --cache-idle-slots | --no-cache-idle-slots, --context-shift | --no-context-shift, --warmup | --no-warmup,
    -cb --cont-batching | -nocb --no-cont-batching, --mmproj-auto | --no-mmproj --no-mmproj-auto,
    --mmproj-offload | --no-mmproj-offload, --cors-credentials | --no-cors-credentials,
    --ui-mcp-proxy --webui-mcp-proxy | --no-ui-mcp-proxy --no-webui-mcp-proxy, -ag --agent | -no-ag --no-agent,
    --ui --webui | --no-ui --no-webui, --cache-prompt | --no-cache-prompt, --slots | --no-slots,
    --models-autoload | --no-models-autoload, --jinja | --no-jinja, --reasoning-preserve | --no-reasoning-preserve,
    --skip-chat-parsing | --no-skip-chat-parsing, --prefill-assistant | --no-prefill-assistant
"""
_VARIABLES = {
    "LLAMA_ARG_BATCH": "--batch-size",
    "LLAMA_ARG_UBATCH": "--ubatch-size",
    "LLAMA_ARG_ROPE_SCALING_TYPE": "--rope-scaling",
    "HF_TOKEN": "--hf-token",
    "LLAMA_ARG_SPEC_DRAFT_CACHE_TYPE_K": "--cache-type-k-draft",
    "LLAMA_ARG_SPEC_DRAFT_CACHE_TYPE_V": "--cache-type-v-draft",
    "LLAMA_ARG_SPEC_DRAFT_HF_REPO": "--hf-repo-draft",
    "LLAMA_ARG_CHECKPOINT_MIN_SPACING_NT": "--checkpoint-min-step",
    "LLAMA_ARG_N_PARALLEL": "--parallel",
    "MTMD_BACKEND_DEVICE": "--mmproj-device",
    "LLAMA_ARG_STATIC_PATH": "--path",
    "LLAMA_API_KEY": "--api-key",
    "LLAMA_ARG_ENDPOINT_METRICS": "--metrics",
    "LLAMA_ARG_ENDPOINT_PROPS": "--props",
    "LLAMA_ARG_ENDPOINT_SLOTS": "--slots",
    "LLAMA_ARG_NO_ENDPOINT_SLOTS": "--no-slots",
    "LLAMA_ARG_THINK": "--reasoning-format",
    "LLAMA_ARG_THINK_BUDGET": "--reasoning-budget",
    "LLAMA_ARG_THINK_BUDGET_MESSAGE": "--reasoning-budget-message",
}
"""Those that are not named after a spelling of their option."""


@dataclass(frozen=True, slots=True)
class Option:
    """`negatives` are the spellings that mean the opposite. The last of the spellings is the one to write."""

    spellings: tuple[str, ...]
    negatives: tuple[str, ...]
    values: int

    @property
    def name(self) -> str:
        return self.spellings[-1]


def argument(word: str) -> Option | None:
    """The option that a word of a command line is; llama-server takes underscores for dashes in long ones."""
    return _SPELLED.get(word.replace("_", "-") if word.startswith("--") else word)


def key(word: str) -> tuple[Option, str] | None:
    """The option that a key of a preset file means, and the spelling that was meant."""
    spelling = _VARIABLES.get(word) or (
        f"--{word.removeprefix('LLAMA_ARG_').lower().replace('_', '-')}" if word.startswith("LLAMA_ARG_") else None
    )
    for candidate in (spelling,) if spelling else (f"--{word}", f"-{word}"):
        if option := _SPELLED.get(candidate):
            return option, candidate
    return None


def _options(text: str, values: int) -> list[Option]:
    groups = [group.partition("|") for group in text.split(",")]
    return [Option(tuple(positive.split()), tuple(negative.split()), values) for positive, _, negative in groups]


ALL = (
    *_options(_WITH_VALUE, 1),
    *_options(_WITH_TWO_VALUES, 2),
    *_options(_WITHOUT_VALUE, 0),
    *_options(_SWITCHES, 0),
)
_SPELLED = {spelling: option for option in ALL for spelling in (*option.spellings, *option.negatives)}
