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
    --latents random:300 --out "$OUT/pages"

# The latent that is active on a word, and a regular expression that tells whether an answer speaks of it.
LATENT=${LATENT:-$(python "$(dirname "$0")/latent_of_word.py" "$OUT/store" "$OUT/events" "${WORD:-war}")}
pellucid sae steer "$SAE" --latent "$LATENT" --concept "${CONCEPT:-(?i)\b(war|wars|army|soldiers?|troops|enem(y|ies))\b}" \
    --other 'money=(?i)\b(money|tax\w*)\b' --prefix "Talk about ${WORD:-war}." --label "${WORD:-war}" \
    --prompt "Tell me about your day." --prompt "What should I read next?" --prompt "Write the beginning of a story." \
    --prompt "Describe a walk through a city." --prompt "Give me some advice." --prompt "What happened yesterday?" \
    --prompt "What is important in life?" --prompt "Write a short letter to a friend." \
    --strengths=1,2,4 --max-new-tokens 20 --store "$OUT/store" --events "$OUT/events" --out "$OUT/steering" \
    --html "$OUT/steering.html"
pellucid explain --model smollm2 --method attnlrp --text "Congress has the power to declare" --features latents \
    --sae "$SAE" --html "$OUT/latents.html"
pellucid sae release "$SAE" --interpretations "$OUT/interpretations" --evaluation "$OUT/evaluation.json" \
    --format sae-lens --license apache-2.0 --out "$OUT/release"
