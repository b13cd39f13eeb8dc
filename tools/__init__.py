"""Programs for those who change this repository: checks of its words, pictures of its pages."""
