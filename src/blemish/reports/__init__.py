"""What people look at: the heat map over a picture, and one self-contained HTML report."""

from blemish.reports.gallery import GalleryItem, GalleryPicker
from blemish.reports.heatmap import colour_bar, overlay
from blemish.reports.html import ReportData, write_report

__all__ = ["GalleryItem", "GalleryPicker", "ReportData", "colour_bar", "overlay", "write_report"]
