"""The plugin for napari: label maps with names and colours, and a widget that predicts. ``napari.yaml`` declares it."""
