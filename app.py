"""The Streamlit page: a text with [CITE] in, ranked papers out. Other pages are in pages/.

They are widgets and layout only; the text of papers is data, see pages/parts/shown.py.
"""

import streamlit as st

from indexer.guard import page_guard
from pages.parts.engine import at_start
from pages.parts.frame import framed
from pages.parts.search import page

if __name__ == "__main__":  # run by Streamlit for every session
    framed("Citemark", page)
else:  # served by `streamlit run app.py`
    app = st.App(
        __file__,
        lifespan=at_start,
        middleware=[page_guard(st.get_option("server.allowedHosts"), st.get_option("server.maxUploadSize"))],
    )
