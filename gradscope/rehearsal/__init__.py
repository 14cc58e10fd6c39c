"""A model and data -> Report of a rehearsal: a short watched training, beside a yardstick."""
