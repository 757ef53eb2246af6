"""The relevance rules as pure functions of tensors: no model, no graph, no engine.

They carry relevance itself, R. Whatever is linear in the traced input goes through one record, ``LinearForm``; the
rules are in ``backtrace``, ``contrast`` and ``lrp``, and what only moves relevance to a maximum is in ``pooling``. All
of them work under ``torch.func.vmap`` over the relevance.
"""
