"""Mandates, rewards, action map, networks, ensemble, baselines and the policy artefact."""
