"""Reading the words in pictures: engines by name, and the role ``ocr`` that they fill."""
