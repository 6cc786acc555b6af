"""Searches: workers that ask an Optuna study for their next trial, and tell it how the trial's runs did."""
