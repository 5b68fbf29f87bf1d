"""Reports: an evaluation as one self-contained HTML file."""

from blemish.reports.gallery import GalleryItem, GalleryPicker
from blemish.reports.html import ReportData, write_report

__all__ = ["GalleryItem", "GalleryPicker", "ReportData", "write_report"]
