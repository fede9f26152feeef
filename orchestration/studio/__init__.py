"""The page of ``foundry studio``: boxes drawn on a canvas become pictures of a layout model, and words in pictures others.

``state`` is what a page holds, ``worker`` the server's one thread, ``drawing`` and ``editing`` what it does for all pages, ``overlay``
boxes as SVG, ``page`` the page with its tab of layouts, ``text_panel`` the tab of words.
"""
