"""The one setting of the attribution benchmarks: a clinical prompt of twelve fields, and an answer that is given."""

from functools import cached_property

import torch

import pellucid
from pellucid.models import Meter, Row

TEXT = """You are helping an oncology team to prepare a tumour board. Read the record of one patient with early breast \
cancer after surgery, and judge how likely the disease is to come back within five years.

Record. Age: {age}. Menopausal status: {menopause}. Tumour size: {size}. Histological grade: {grade}. Axillary lymph \
nodes: {nodes}. Oestrogen receptor: {er}. Progesterone receptor: {pr}. HER2: {her2}. Ki-67 index: {ki67}. \
Lymphovascular invasion: {lvi}. Surgical margins: {margins}. Comorbidity: {comorbidity}.

Weigh the factors against each other. Do not invent findings that the record does not hold, and do not recommend a \
treatment. State first whether the risk of recurrence is low, intermediate or high, then name the findings of the \
record that weigh most, and say which missing finding would help most. Answer in two sentences of plain English."""

FIELDS = {
    "age": "47 years",
    "menopause": "premenopausal",
    "size": "34 mm",
    "grade": "3",
    "nodes": "5 of 14 positive",
    "er": "negative, 0 %",
    "pr": "positive, 10 %",
    "her2": "positive, 3+",
    "ki67": "45 %",
    "lvi": "present",
    "margins": "clear, 4 mm",
    "comorbidity": "type 2 diabetes",
}
ABSENT = "not recorded"
ANSWER = "The patient has a high risk of recurrence because five lymph nodes are positive."


class Setting:
    """The model, the encoded prompt and the answer's tokens."""

    def __init__(self) -> None:
        self.model = pellucid.load("smollm2")
        self.prompt = pellucid.Template(TEXT, absent=ABSENT)(**FIELDS)
        self.inputs = self.model.encode(self.prompt)
        self.answer = self.model.answer_ids(ANSWER)

    @property
    def length(self) -> int:
        """Tokens of prompt and answer."""
        return len(self.inputs.row.ids) + len(self.answer)

    @cached_property
    def ids(self) -> torch.Tensor:
        """Prompt and answer [1, length]."""
        return torch.tensor([[*self.inputs.row.ids, *self.answer]])

    def rendered(self, **fields: str) -> str:
        """The whole text that the model reads, made by the tokenizer's own chat template."""
        messages = [{"role": "user", "content": TEXT.format(**fields)}]
        return self.model.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)

    def forward(self) -> None:
        """One plain forward pass over prompt and answer with logits everywhere: the unit ``fwd``."""
        with torch.no_grad():
            self.model.module(self.ids, use_cache=False)

    def in_forwards(self, spent: Meter) -> float:
        """Tokens that were computed, in plain forward passes."""
        return spent.tokens / self.length


def tree_floor(rows: list[Row], answer: tuple[int, ...]) -> int:
    """Tokens of the prefix tree of all rows, each followed by the answer: what an exact scorer cannot do without."""
    tree: dict[int, dict] = {}
    nodes = 0
    for row in rows:
        branch = tree
        for token in row.ids + answer[:-1]:
            if token not in branch:
                branch[token] = {}
                nodes += 1
            branch = branch[token]
    return nodes
