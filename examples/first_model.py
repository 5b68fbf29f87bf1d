"""The main job in fifteen lines: learn good images, measure, save, inspect.

Run `make demo` first: it draws the product that is read here.
"""
# ruff: noqa: T201

import blemish

data = blemish.open_dataset("demo/plate")  # or a folder of yours: its layout is found by looking
method = blemish.PatchCore(coreset_ratio=0.01)
model = blemish.fit(method, data.train)  # sees good images only
print(model.calibration.summary())  # what the thresholds rest on

evaluation = blemish.evaluate(model, data.test, report="demo/plate.html")
print(evaluation)

model.save("demo/plate.blemish")
blemish.recalibrate("demo/plate.blemish", false_alarm_rate=0.05)  # other thresholds, same weights
model = blemish.load("demo/plate.blemish")
for sample in data.test[-5:]:
    result = model.inspect(sample.path)
    print(result.verdict, f"{result.score:.2f}", sample.path)
    for region in result.regions:
        print("  defect at", region.x, region.y, "size", region.width, "×", region.height)
