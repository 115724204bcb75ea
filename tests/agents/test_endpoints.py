import pytest

from agents.api.endpoints import Secret, load_endpoint
from agents.api.usage import Usage, default_prices, find_price, read_prices
from longvideo_env.errors import SpecError


@pytest.fixture
def file(tmp_path, monkeypatch):
    path = tmp_path / "endpoints.yaml"
    monkeypatch.setenv("LONGVIDEO_ENDPOINTS", str(path))

    def write(text):
        path.write_text(text, encoding="utf-8")

    return write


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch):
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "LONGVIDEO_ENDPOINTS", "LONGVIDEO_PRICES"):
        monkeypatch.delenv(name, raising=False)


def test_the_environment_is_the_default(monkeypatch):
    with pytest.raises(SpecError, match="set OPENAI_API_KEY"):
        load_endpoint()
    monkeypatch.setenv("OPENAI_API_KEY", "sk-1234")
    endpoint = load_endpoint()
    assert endpoint.base_url == "https://api.openai.com/v1"
    assert endpoint.api_key == Secret("sk-1234")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://localhost:1/v1/")
    assert load_endpoint().base_url == "http://localhost:1/v1"


def test_an_address_gets_no_key_that_was_meant_for_another(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-1234")
    assert not load_endpoint("http://localhost:8000/v1").api_key


@pytest.mark.parametrize(
    "url", ["http://me:secret@host/v1", "https://host/v1?key=secret", "ftp://host", "https://"]
)
def test_an_address_with_a_key_in_it_is_refused_without_repeating_it(url):
    with pytest.raises(SpecError) as caught:
        load_endpoint(url)
    assert "secret" not in str(caught.value)


def test_a_file_names_endpoints_limits_and_prices(file, monkeypatch):
    monkeypatch.setenv("MY_KEY", "sk-abcd")
    file(
        "endpoints:\n  near: {base_url: 'http://localhost:8000/v1', max_in_flight: 7}\n"
        "  far: {base_url: 'https://far/v1', api_key_env: MY_KEY, tokens_per_minute: 1000}\n"
        "prices:\n  mine: {input: 1, output: 2}\n"
    )
    assert load_endpoint("near").max_in_flight == 7
    far = load_endpoint("far")
    assert far.api_key.reveal() == "sk-abcd"
    assert far.prices["mine"].output == 2
    assert "sk-abcd" not in repr(far)
    monkeypatch.delenv("MY_KEY")
    with pytest.raises(SpecError, match="MY_KEY holds no key"):
        load_endpoint("far")
    with pytest.raises(SpecError, match="there are: far, near"):
        load_endpoint("fra")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("endpoints: {a: {base_url: 'http://h/v1', max_inflight: 3}}", "unknown option"),
        ("endpoints: {a: {base_url: 'http://h/v1', attempts: 0}}", "above 0"),
        ("endpoints: {a: {}}", "no base_url"),
        ("endpoints: [a]", "mapping"),
        ("a: [sk-secret", "not YAML"),
        ("prices: {m: 3}\nendpoints: {a: {base_url: 'http://h/v1'}}", "US dollars"),
    ],
)
def test_mistakes_in_the_file_are_named(file, text, problem):
    file(text)
    with pytest.raises(SpecError, match=problem) as caught:
        load_endpoint("a")
    assert "sk-secret" not in str(caught.value)


def test_prices_go_by_name_then_by_the_longest_pattern():
    prices = read_prices({"a": {"input": 1, "output": 1}, "a*": {"input": 2, "output": 2}}, "here")
    assert find_price(prices, "a").input == 1
    assert find_price(prices, "org/a").input == 1
    assert find_price(prices, "ab").input == 2
    assert find_price(prices, "b") is None
    assert find_price(default_prices(), "gpt-4o").output == 10


def test_a_sum_with_an_unknown_price_is_unknown():
    known, unknown = Usage(1, 10, 0, 5, 0, 0.5), Usage(1, 10, 0, 5)
    assert (known + known).cost_usd == 1.0
    assert (Usage() + known).cost_usd == 0.5
    assert (known + unknown).cost_usd is None
    assert (known + unknown).prompt_tokens == 20
