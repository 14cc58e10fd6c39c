"""Programs that people asked about because they did not train, each with the accepted cure.

`catalogue` finds them, `python -m tests.programs` lists them and trains them again. Only facts were
taken from the questions (layers, optimizer, loss, data, what cured it); the code is new. Private or
large data were replaced by made-up data of the same shape and scale, and a handful of samples for
thousands of epochs by the samples repeated for fewer epochs, which is as many steps.
"""
