"""The pictures of a report: hand-written SVG, a file a picture, coloured by the style sheet.

Every picture is a function from the plain data of a report to the figures it has numbers for, so a
report without them has no empty frame. Marks of one kind share one path and neighbours share a
band, so a picture of 1,000 layers is as small as one of 50 and reads the same.
"""
