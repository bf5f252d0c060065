"""What a person sees: each screen, and each part of one, as lines that fit its width.

Whether something is good or bad is judged in advice, never here.
"""
