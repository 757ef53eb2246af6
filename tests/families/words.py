"""The recurrent text classifier that is trained here, about a sentence of our own."""

import pellucid
from families.example import Example
from pellucid.targets import Logit

TEXT = "A tedious film, badly written and far too long."


def word_lstm():
    """The one of the zoo, on word vectors."""
    model = pellucid.load("lstm-sst2")
    batch = model.tokenizer(TEXT, return_tensors="pt")
    inputs = {"inputs_embeds": model.embed(batch["input_ids"]), "attention_mask": batch["attention_mask"]}
    return Example(
        family="recurrent", model="word BiLSTM on SST-2", weights="trained here", module=model.module, inputs=inputs,
        target=Logit(0), note="packed sequences",
    )  # fmt: skip


EXAMPLES = (word_lstm,)
