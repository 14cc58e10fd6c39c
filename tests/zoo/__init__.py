"""Models as people build them: each is analysed and compared with what a plain tape says.

`python -m tests.zoo` measures all of them and writes docs/zoo.md.
"""
