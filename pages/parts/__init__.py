"""What the pages are made of. Only files of the folder above are pages of their own to Streamlit."""
