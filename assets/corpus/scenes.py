"""The scene builder in one place: read a world, build its scenes, land them as shards."""

from assets.corpus.composing import build_scene
from assets.corpus.scene import Scene, SceneObject
from assets.corpus.scene_landing import land_scenes
from assets.corpus.world import Concept, World, load_world
from assets.corpus.worlds import AnyWorld, build_scenes, load_any_world

__all__ = [
    "AnyWorld",
    "Concept",
    "Scene",
    "SceneObject",
    "World",
    "build_scene",
    "build_scenes",
    "land_scenes",
    "load_any_world",
    "load_world",
]
