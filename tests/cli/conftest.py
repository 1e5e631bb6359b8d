from tests.train.support import work  # noqa: F401  the fixture
