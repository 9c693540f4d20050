import pytest

from ettin_data import recipe
from ettin_data.base.errors import RecipeError
from ettin_data.sources import REGISTRY

CHOSEN = {"pack.window=lots": ["pack.strategy=concat"]}
TOTALS = {"pretrain": 1704.7e9, "extension": 249.3e9, "decay": 76.3e9}


@pytest.mark.parametrize("phase", recipe.PHASES)
def test_shipped_recipes_are_the_published_mixture(phase):
    loaded = recipe.load_recipe(phase)
    assert sum(source.tokens for source in loaded.sources.values()) == TOTALS[phase]
    assert loaded.length == (1024 if phase == "pretrain" else 8000)
    assert loaded.sources.keys() <= REGISTRY.keys()


def test_published_folder_names():
    assert recipe.load_recipe("pretrain").layout_name() == "tokenized-chunked-1024-512-128-backfill-nodups"
    assert recipe.load_recipe("decay").layout_name() == "tokenized-chunked-8000-512-128-backfill-nodups"


def test_add_drop_set_and_scale():
    loaded = recipe.load_recipe(
        "pretrain",
        overrides=["sources.arxiv.tokens=6B", "pack.strategy=best_fit", "order.batch=32"],
        scale=0.5,
        add_sources=["mine=https://host:99/data.jsonl:5M"],
        drop_sources=["books"],
    )
    assert loaded.sources["arxiv"].tokens == 3_000_000_000
    assert loaded.sources["mine"].tokens == 2_500_000
    assert loaded.sources["mine"].root == "https://host:99/data.jsonl"
    assert "books" not in loaded.sources
    assert (loaded.pack.name, loaded.order.batch) == ("best_fit", 32)


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ("sources.arxiv.tokns=6B", ["sources.arxiv.tokns", "did you mean tokens"]),
        ("sources.arxv.tokens=6B", ["arxv", "did you mean arxiv"]),
        ("pack.stratgy=concat", ["pack.stratgy", "did you mean strategy"]),
        ("pack.strategy=tight", ["pack.strategy", "'tight'", "best_fit"]),
        ("pack.strategy=backfil", ["pretrain.yaml: pack.strategy", "did you mean backfill"]),
        ("pack=concatt", ["'concatt'", "did you mean concat"]),
        ("pack=7", ["pack = 7", "strategy: backfill"]),
        ("pack.window=lots", ["pack.window", "'lots'"]),
        ("length=200000", ["length", "200000", "131072"]),
        ("sources.arxiv.tokens=lots", ["sources.arxiv.tokens", "'lots'", "837.2B"]),
        ("sources.arxiv.tokens=[1]", ["sources.arxiv.tokens", "[1]"]),
        ("pack.min_length=2000", ["pack.min_length (2000)", "1022"]),
        ("validation=1.5", ["validation", "1.5"]),
        ("nothing", ["sets nothing"]),
        ("length.x=1", ["length"]),
    ],
)
def test_errors_name_file_key_value_and_remedy(change, parts):
    with pytest.raises(RecipeError) as error:
        recipe.load_recipe("pretrain", overrides=[*CHOSEN.get(change, ()), change])
    for part in parts:
        assert part in str(error.value)


def test_a_strategy_has_its_own_options():
    """Of the others' it takes no notice, so that one word changes the strategy of a recipe; a name alone is enough."""
    both = ("min_length", "always_skip")
    changes = {
        "pack=best_fit": (),
        "pack.strategy=best_fit": both,
        "pack={strategy: best_fit, min_length: 7}": both[:1],
    }
    for change, passed_over in changes.items():
        pack = recipe.load_recipe("pretrain", overrides=[change]).pack
        assert pack.to_recipe() == {"strategy": "best_fit", "window": 16_000_000}
        assert pack.passed_over == passed_over  # which `plan` and `build` say
        assert recipe.Recipe.model_validate(
            recipe.load_recipe("pretrain").model_dump(mode="json")
        ) == recipe.load_recipe("pretrain")
    assert recipe.load_recipe("pretrain").pack.to_recipe() == {
        "strategy": "backfill",
        "min_length": 512,
        "always_skip": 128,
    }


def test_files_that_are_no_recipe(tmp_path):
    with pytest.raises(RecipeError, match="there is no recipe 'pretrian'"):
        recipe.load_recipe("pretrian")
    for text in ("- a list", "phase: [", "phase: pretrain\nlength: 1024\nsources: {}", "sources: 7"):
        path = tmp_path / "mine.yaml"
        path.write_text(text)
        with pytest.raises(RecipeError, match=r"mine\.yaml|not a mapping"):
            recipe.load_recipe(path)


def test_yaml_is_data():
    with pytest.raises(RecipeError):
        recipe.load_recipe("pretrain", overrides=["length=!!python/object/apply:os.getcwd []"])


@pytest.mark.parametrize("name", ["../x", "a b", "a/b", ".hidden"])
def test_a_source_name_is_a_folder_name(name):
    with pytest.raises(RecipeError, match="folder"):
        recipe.load_recipe("pretrain", add_sources=[f"{name}=/data:5M"])


def test_a_shard_that_mds_cannot_address_is_refused():
    for size in ("4GiB", "8GiB", "1TB"):
        with pytest.raises(RecipeError, match=r"(?s)shards\.size_limit.*32 bits"):
            recipe.load_recipe("pretrain", overrides=[f"shards.size_limit={size}"])
    assert recipe.load_recipe("pretrain", overrides=["shards.size_limit=4095MiB"]).shards.size_limit < 1 << 32


def test_a_recipe_that_wants_no_tokens_is_refused():
    every = list(recipe.load_recipe("decay").sources)
    with pytest.raises(RecipeError, match="no source is to give any tokens: mine"):
        recipe.load_recipe("decay", add_sources=["mine=/data:0"], drop_sources=every)
    assert recipe.load_recipe("decay", add_sources=["mine=/data:0"], drop_sources=every[1:]).sources["mine"].tokens == 0
