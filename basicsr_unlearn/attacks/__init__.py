"""Adversarial examples for restorers: the attack, what it aims at, and where its results are kept."""
