"""The main job in fifteen lines: learn from normal images, evaluate, save, inspect.

Run `make demo` first: it draws the images that are read here.
"""
# ruff: noqa: T201

import blemish

data = blemish.open_dataset("demo/plate")  # or your own folder
method = blemish.PatchCore(coreset_ratio=0.01)
fine = blemish.Preprocess(size=(320, 432))  # pixels; thin scratches need more than 256 × 256
model = blemish.fit(method, data.train, preprocess=fine)  # learns from normal images only
print(model.calibration.summary())  # how reliable the thresholds are

print(blemish.evaluate(model, data.test, report="demo/plate.html"))

model.save("demo/plate.blemish")
blemish.recalibrate("demo/plate.blemish", false_alarm_rate=0.05)  # other thresholds, same weights
model = blemish.load("demo/plate.blemish")
for sample in data.test[-5:]:
    result = model.inspect(sample.path)
    print(result.verdict, f"{result.score:.2f}", sample.path)
    for region in result.regions:
        print("  defect at", region.x, region.y, "size", region.width, "×", region.height)
