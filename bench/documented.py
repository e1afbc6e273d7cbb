"""The FastAPI handler of LangSmith's page on webhooks, without its calls to LangSmith.

Under Modal the function becomes a FastAPI app; here uvicorn serves it: ``uvicorn bench.documented:app``.
"""

import os

from fastapi import FastAPI, HTTPException, Query, status

app = FastAPI()


@app.post("/")
def f(data: dict, secret: str = Query(...)):
    if secret != os.environ["LS_WEBHOOK"]:
        raise HTTPException(
            status_code=status.HTTP_401_UNAUTHORIZED,
            detail="Incorrect bearer token",
            headers={"WWW-Authenticate": "Bearer"},
        )
    _ids = [run["id"] for run in data["runs"]]
    return "success!"
