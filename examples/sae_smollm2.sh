#!/usr/bin/env bash
# Latents of SmolLM2, from English text to steering: harvest, train, evaluate, interpret, look, steer, explain, release.
# Every step resumes where it was stopped. About an hour on two cores; TOKENS=40000 SAMPLE=8 is a look around.
set -euo pipefail

OUT=${1:-sae-out}
SITE=model.layers.15
TOKENS=${TOKENS:-400000}   # of the State of the Union addresses, which come with pellucid
EPOCHS=${EPOCHS:-6}
SAMPLE=${SAMPLE:-50}       # latents that are interpreted and drawn
LLM=${LLM:-smollm2}        # or an endpoint: LLM=http://localhost:8000/v1 LLM_MODEL=name
NAME=$SITE-matryoshka-4608-k32-s0

pellucid sae harvest --model smollm2 --site "$SITE" --data sotu --selector text+from:4 --tokens "$TOKENS" --out "$OUT/store"
pellucid sae train "$OUT/store" --width 4608 --k 32 --epochs "$EPOCHS" --lr 5e-4 --out "$OUT/sae"

SAE=$OUT/sae/$NAME
pellucid sae evaluate "$SAE" --store "$OUT/store" --model smollm2 --loss-samples 50 --events "$OUT/events" \
    --out "$OUT/evaluation.json"
pellucid sae interpret "$SAE" --store "$OUT/store" --events "$OUT/events" --llm "$LLM" ${LLM_MODEL:+--llm-model "$LLM_MODEL"} \
    --scorers detection,fuzzing,embedding --sample "$SAMPLE" --out "$OUT/interpretations"
pellucid sae dashboard "$SAE" --store "$OUT/store" --events "$OUT/events" --interpretations "$OUT/interpretations" \
    --out "$OUT/pages"

# The latents whose readout is a concept that a regular expression can tell; LATENT=N CONCEPT=REGEX for another one.
LATENT=${LATENT:?the pages in $OUT/pages/index.html show what the latents are; choose one: LATENT=N CONCEPT=REGEX}
pellucid sae steer "$SAE" --latent "$LATENT" --concept "${CONCEPT:?}" --prompt "Tell me about today." \
    --prompt "What should I read next?" --store "$OUT/store" --events "$OUT/events" --out "$OUT/steering" \
    --html "$OUT/steering.html"
pellucid explain --model smollm2 --method attnlrp --text "Congress has the power to declare" --features latents \
    --sae "$SAE" --html "$OUT/latents.html"
pellucid sae release "$SAE" --interpretations "$OUT/interpretations" --evaluation "$OUT/evaluation.json" \
    --format sae-lens --license apache-2.0 --out "$OUT/release"
