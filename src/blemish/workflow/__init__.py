"""The verbs that work on a model: learn a product, measure it on labelled images, learn more, forget a defect."""
