"""Learn, reproduce and use cross-lingual transfer for low-resource languages."""

__version__ = "0.1.0"

# The public names and the module each lives in. A name is imported the first time it is asked for, so that
# `import xlt_lib` loads neither torch nor transformers nor datasets.
_HOME = {
    "DataError": "data.errors",
    "Language": "data.languages", "language": "data.languages", "languages": "data.languages", "distance": "data.distances",
    "World": "data.world", "Change": "data.laboratory",
    "load": "data.corpora", "describe": "data.corpora", "registry": "data.registry", "catalogue": "data.registry",
    "Cleaning": "data.cleaning", "clean": "data.cleaning", "emotion_to_sentiment": "data.labels",
    "sample": "data.sampling", "sample_corpora": "data.sampling", "stratified_split": "data.sampling",
    "Scenario": "data.sampling", "SCENARIOS": "data.sampling",
    "check": "data.checks",
    "score_spans": "evaluation.metrics", "score_labels": "evaluation.metrics",
    "words_of": "words.segmentation", "Vectors": "words.vectors", "read_vectors": "words.vectors", "write_vectors": "words.vectors",
    "train_word2vec": "words.word2vec", "WordRecipe": "words.word2vec",
    "train_glove": "words.glove", "GloveRecipe": "words.glove", "train_fasttext": "words.fasttext", "FastTextRecipe": "words.fasttext",
    "SubwordVectors": "words.fasttext",
    "language_map": "evaluation.psychotypology",
    "encoder": "encoders.named", "fine_tune": "transfer.finetuning", "predict": "app.predict",
}
__all__ = ["__version__", *_HOME]  # noqa: PLE0604


def __getattr__(name):
    "Import a public name from its module the first time it is asked for."
    if name not in _HOME: raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__(): return sorted(set(globals()) | set(_HOME))
