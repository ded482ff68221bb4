"""Fits a 3D morphable face model to faces in video.

For each frame and face: head pose, identity, expressions (ARKit's names), 68 landmarks, a mesh.

    import mmface

    for frame, faces in mmface.video("talk.mp4"):
        for face in faces:
            print(frame.time, face.id, face.r, face.expression["jawOpen"])

Frames of your own go to Tracker.process(frame, time); measure() makes a table of a video. Whatever
goes wrong is a mmface.Error whose text says what to do.
"""

from collections.abc import Mapping

from ._mmface import (
    Error,
    Expression,
    Face,
    FaceModel,
    CameraPose,
    Gaze,
    Look,
    Mesh,
    Raw,
    Tracker,
    __version__,
    face_model,
)
from ._measure import measure
from ._video import Frame, video

__all__ = [
    "Error",
    "Expression",
    "Face",
    "FaceModel",
    "Frame",
    "CameraPose",
    "Gaze",
    "Look",
    "Mesh",
    "Raw",
    "Tracker",
    "__version__",
    "face_model",
    "measure",
    "video",
]

Mapping.register(Expression)
