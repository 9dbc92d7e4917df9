"""The served ensemble: one daily allocation, explained, from one whole artefact or not at all."""
