#!/usr/bin/env bash
# Latents of a vision-language model: the tiny LLaVA that comes with pellucid, on questions about pictures of shapes.
# QUESTIONS is a JSON-lines file of rows {"image": FILE, "text": QUESTION, "answer": ANSWER}; about ten minutes on two cores.
set -euo pipefail

QUESTIONS=${1:?usage: sae_llava.sh QUESTIONS.jsonl [OUT]}
OUT=${2:-sae-llava-out}
SITE=model.language_model.layers.0
SAE=$OUT/sae/$SITE-matryoshka-768-k16-s0

pellucid sae harvest --model llava-easy-vqa --site "$SITE" --data "$QUESTIONS" --selector text+image --tokens 60000 \
    --out "$OUT/store"
pellucid sae train "$OUT/store" --width 768 --k 16 --epochs 20 --lr 1e-3 --out "$OUT/sae"
pellucid sae evaluate "$SAE" --store "$OUT/store" --model llava-easy-vqa --events "$OUT/events" --out "$OUT/evaluation.json"
pellucid sae interpret "$SAE" --store "$OUT/store" --events "$OUT/events" --llm smollm2 --scorers detection,embedding \
    --sample 20 --out "$OUT/interpretations"
pellucid sae dashboard "$SAE" --store "$OUT/store" --events "$OUT/events" --interpretations "$OUT/interpretations" \
    --latents random:60 --out "$OUT/pages"
pellucid sae release "$SAE" --interpretations "$OUT/interpretations" --evaluation "$OUT/evaluation.json" \
    --format dictionary-learning --license mit --out "$OUT/release"

IMAGE=$(head -1 "$QUESTIONS" | python -c 'import json, sys; print(json.loads(sys.stdin.readline())["image"])')
case $IMAGE in /*) ;; *) IMAGE=$(dirname "$QUESTIONS")/$IMAGE ;; esac
pellucid explain --model llava-easy-vqa --image "$IMAGE" --text "what color is the shape?" --method attnlrp \
    --features latents --sae "$SAE" --html "$OUT/latents.html"
LATENT=$(head -1 "$OUT/interpretations/interpretations.jsonl" | python -c 'import json, sys; print(json.loads(sys.stdin.readline())["latent"])')
pellucid sae steer "$SAE" --latent "$LATENT" --image "$IMAGE" --prompt "what color is the shape?" --show
