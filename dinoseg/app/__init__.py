"""A page on this machine that shows what trained runs predict: everything of it that needs no gradio, and the page."""
