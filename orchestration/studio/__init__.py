"""The page of ``foundry studio``: boxes drawn on a canvas become pictures of a layout model.

``state`` is what a page holds, ``drawing`` what the server draws for all pages, ``overlay`` boxes as SVG, ``page`` the page.
"""
