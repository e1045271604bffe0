"""A labelled corpus for the safety filter: texts made from a seed, with where the secrets and personal data are.

Nothing in these files looks like a secret: values are drawn from formats such as `glpat-<url:20>`. What is drawn
belongs to nobody; numbers have valid check digits, so some may exist. docs/safety_corpus.md says what is in it and why.
"""
