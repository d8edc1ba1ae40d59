"""The command line: what it prints, and one clear line for what the user can put right."""

import subprocess
import sys

import pytest
import yaml
from helixwave import __version__
from helixwave.cards import card_names
from helixwave.cli import main
from helixwave.commands.recipes import REGISTRIES
from helixwave.recipe import check_recipe, choices, load_recipe, recipe_names, to_yaml
from helixwave.registry import BLOCKS
from helixwave_kernels import OPS

ANNOTATE = "genomics/annotate"


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """Call `helixwave` with arguments in an empty folder: `(exit code, output, errors)`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    monkeypatch.delenv("HELIXWAVE_DEBUG", raising=False)
    monkeypatch.setenv("HELIXWAVE_DATA", str(tmp_path))

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["helixwave", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        return end.value.code or 0, *capsys.readouterr()

    return call


@pytest.fixture
def refuse(run):
    """Call `helixwave` with arguments that are wrong: its one line."""

    def call(*arguments):
        code, output, errors = run(*arguments)
        assert code == 1
        assert errors.startswith("helixwave: ")
        assert errors.count("\n") == 1
        assert "Traceback" not in errors + output
        return errors

    return call


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("recipes", recipe_names()),
        ("backbones", choices()["backbone"]),
        *[(kind, list(registry)) for kind, registry in REGISTRIES.items()],
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_list_names_every_part(run, kind, names):
    code, output, _ = run("list", kind)
    assert code == 0
    assert {line.split(" ")[0] for line in output.splitlines() if line[:1].strip()} == {kind, *names}


def test_list_shows_what_a_recipe_can_set(run):
    _, output, _ = run("list", "blocks")
    assert "d_state=16" in output
    assert "Mamba-1" in output
    assert "Source: Gu and Dao" in output
    assert "d_model" not in output
    assert run("list")[1] == run("list", "recipes")[1]


def test_list_shows_costs_on_request(run, monkeypatch):
    def demanding(d_model, *, size: int):
        """A block that asks for more than a width."""

    some = {name: BLOCKS[name] for name in ("bidirectional", "mamba", "mlp")}
    monkeypatch.setattr(BLOCKS, "group", "helixwave.blocks_of_this_test")
    monkeypatch.setattr(BLOCKS, "_local", {**some, "demanding": demanding})
    code, output, _ = run("list", "blocks", "--verbose")
    assert code == 0
    first = {line.split()[0]: line.split()[-3:] for line in output.splitlines() if line[:1].strip()}
    assert first["blocks"] == ["parameters", "state", "Mop/token"]
    # 128 -> 512 -> 128 channels: 262,144 for the products, and six for each of 512 activations
    assert first["mlp"] == ["131,712", "0", "0.27"]
    assert first["mamba"][1] == "4,864"
    assert first["bidirectional"][1] == "none"
    assert first["demanding"] == ["?", "?", "?"]


def test_list_needs_no_torch():
    program = "import sys; from helixwave.commands.recipes import Kind, list_parts; list_parts(Kind.blocks)"
    result = subprocess.run(
        [sys.executable, "-c", f"{program}; print('torch' in sys.modules)"], capture_output=True, text=True, check=True
    )
    assert result.stdout.splitlines()[-1] == "False"


def test_show_prints_the_resolved_recipe(run):
    code, output, _ = run("show", ANNOTATE, "backbone=hybrid", "seed=4")
    recipe = load_recipe(ANNOTATE, ["backbone=hybrid", "seed=4"])
    assert code == 0
    assert check_recipe(ANNOTATE, yaml.safe_load(output)) == recipe


def test_validate(run, refuse):
    assert run("validate", ANNOTATE)[:2] == (0, f"{ANNOTATE}: valid\n")
    assert "Did you mean 'max_epochs'" in refuse("validate", ANNOTATE, "trainer.max_epoch=1")
    assert "Did you mean 'genomics/annotate'" in refuse("validate", "genomics/anotate")


def test_version(run):
    assert run("--version")[:2] == (0, f"helixwave {__version__}\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["trian"], "No such command 'trian'"), (["list", "things"], "'things' is not one of"), (["show"], "RECIPE")],
)
def test_wrong_use_points_to_help(run, arguments, message):
    code, _, errors = run(*arguments)
    assert code == 2
    assert message in errors
    assert "--help" in errors


def test_folder_of_another_run_is_refused(refuse, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("text")
    assert "full is not an empty folder. Choose another --run" in refuse("train", ANNOTATE, "--run", "full")
    assert "thesis.tex is not an empty folder" in refuse("train", ANNOTATE, "--run", "full/thesis.tex")
    (tmp_path / "full" / "recipe.yaml").write_text("")
    assert "holds a run already. `helixwave resume full`" in refuse("train", ANNOTATE, "--run", "full")
    assert {path.name for path in (tmp_path / "full").iterdir()} == {"thesis.tex", "recipe.yaml"}


def test_wrong_recipe_leaves_no_folder(refuse, tmp_path):
    assert "lists several values. Add -m" in refuse("train", ANNOTATE, "seed=1,2", "--run", "new")
    assert "Did you mean 'seed'" in refuse("train", ANNOTATE, "sed=1", "-m", "--run", "new")
    assert list(tmp_path.iterdir()) == []


def test_resume_of_what_is_no_run(refuse, tmp_path):
    assert "nowhere is no run: it has no recipe.yaml" in refuse("resume", "nowhere")
    for text, message in [
        ("", "holds no recipe"),
        ("a: [1", "not valid YAML"),
        ("trainr: {}", "Did you mean 'trainer'"),
    ]:
        (tmp_path / "recipe.yaml").write_text(text)
        assert message in refuse("resume", tmp_path)


def test_resume_of_a_complete_run(run, tmp_path):
    (tmp_path / "recipe.yaml").write_text(f"# {ANNOTATE}\n{to_yaml(load_recipe(ANNOTATE).config)}")
    (tmp_path / "report.html").write_text("")
    code, output, _ = run("resume", tmp_path)
    assert code == 0
    assert "is complete: its report is" in output


def test_predict_without_a_checkpoint(refuse, tmp_path):
    (tmp_path / "genome.fa").write_text(">a\nACGT\n")
    assert "nowhere is no checkpoint: there is no such folder" in refuse("predict", "nowhere", "genome.fa")
    assert "holds no config.json with model.safetensors" in refuse("predict", tmp_path, "genome.fa")


def test_data_list(run, tmp_path):
    code, output, _ = run("data", "list")
    assert code == 0
    assert {line.split(" ")[0] for line in output.splitlines()} >= set(card_names())
    assert "here" in output
    assert "0 of 1 files" in output
    assert "you bring it" in output
    assert str(tmp_path) in output.replace("\n", "")


def test_data_fetch_says_what_to_bring(run):
    code, output, _ = run("data", "fetch", "nucleotide_transformer")
    assert code == 0
    assert output.startswith("nucleotide_transformer: bring TASK/train.fna, TASK/test.fna from https://")


def test_data_verify(run, refuse, tmp_path):
    code, output, _ = run("data", "verify", "arabidopsis_chloroplast")
    assert code == 0
    assert output.splitlines() == [
        f"arabidopsis_chloroplast/{file}: ok (present and as published)" for file in ("NC_000932.fasta", "coding.tsv")
    ]
    (tmp_path / "uci_splice").mkdir()
    (tmp_path / "uci_splice" / "spliceData.txt").write_text("EI\n")
    code, output, errors = run("data", "verify", "uci_splice", "nfe2_chipseq")
    assert code == 1
    assert "uci_splice/spliceData.txt: differs" in output
    assert output.count(": missing (not here)") == 4
    assert "5 files are missing or differ, the first: uci_splice/spliceData.txt" in errors
    assert "Did you mean 'uci_splice'" in refuse("data", "verify", "uci_splce")


def test_errors_of_the_system_are_one_line_too(refuse, monkeypatch, tmp_path):
    monkeypatch.setenv("HELIXWAVE_DATA", str(tmp_path / "nowhere"))
    assert "there is no such folder" in refuse("data", "list")


def test_debugging_shows_the_traceback(run, monkeypatch):
    from helixwave.errors import InputError

    monkeypatch.setenv("HELIXWAVE_DEBUG", "1")
    with pytest.raises(InputError, match="no recipe named"):
        run("validate", "nothing")


def test_doctor_says_what_runs_here_and_why_the_rest_does_not(run):
    code, output, _ = run("doctor")
    assert code == 0
    lines = output.splitlines()
    for op in OPS:
        (row,) = [line for line in lines if line.split()[:1] == [op.__name__]]
        assert row.split()[1:3] == ["cpu", "cpu"]
    assert any(line.startswith("native kernels") for line in lines)


def test_doctor_names_the_reason_for_native_kernels(run, monkeypatch):
    monkeypatch.setattr("helixwave_kernels.native.reason", lambda: "it is switched off by HELIXWAVE_NATIVE=0")
    _, output, _ = run("doctor")
    assert "no: it is switched off by HELIXWAVE_NATIVE=0" in output


def test_doctor_names_what_an_extra_lacks(run, monkeypatch):
    monkeypatch.setattr("helixwave.commands.doctor.requires", lambda _: ['unheard-of>=1; extra == "genomics"'])
    _, output, _ = run("doctor")
    assert "no: unheard-of not installed, run pip install 'helixwave[genomics]'" in output
