# Needs Python 3.11 or 3.12 and nothing else; `make PYTHON=python3.12 ...` chooses one.

PYTHON ?= python3
VENV ?= .venv
INSTALLED := $(VENV)/installed

.PHONY: compare test

compare: $(INSTALLED)
	$(VENV)/bin/procplan compare --preset laptop

test: $(INSTALLED)
	$(VENV)/bin/python -m pytest -n auto --maxprocesses 4 --dist worksteal --durations 30

$(INSTALLED): setup.py
	@$(PYTHON) -c 'import sys; v = sys.version_info; (3, 11) <= v < (3, 13) or sys.exit( \
	  "Python 3.11 or 3.12 is needed, and $(PYTHON) is %d.%d: make PYTHON=python3.12 ..." % v[:2])'
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --editable '.[report,test]'
	@touch $@
