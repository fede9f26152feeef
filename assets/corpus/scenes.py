"""The scene builder in one place: read a world, build its scenes, land them as shards."""

from assets.corpus.composing import Scene, SceneObject, build_scene, build_scenes
from assets.corpus.scene_landing import land_scenes
from assets.corpus.world import Concept, World, load_world

__all__ = [
    "Concept",
    "Scene",
    "SceneObject",
    "World",
    "build_scene",
    "build_scenes",
    "land_scenes",
    "load_world",
]
