"""What to do next for one image, and what to say: pure functions, and no word of who does it.

- `decide`      where it begins: the table of all states
- `build`, `publication`   the same once the inputs are known, and once their image is there
- `removal`     the end of a NixImage, and of its repository
- `classes`     the NixBuildClass of an image: what it allows, what it gives
- `case`        what is decided upon, and what a decision is
- `answers`, `failures`, `history`   the status that follows
- `conditions`, `words`   states to conditions and sentences
"""
