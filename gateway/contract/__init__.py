"""The contract with the web app on paper: JSON Schema and AsyncAPI, written from the models that the code uses."""
