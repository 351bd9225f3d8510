"""The pages: widgets and layout."""
