"""Pictures and films of what agents see, do and imagine.

`canvas` draws, `video_file` writes, the other modules say what is drawn.
"""
