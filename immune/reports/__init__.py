"""What people are shown: documents, explanations, a page in one file, a live view. Pure shapes in, text out."""
