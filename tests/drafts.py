"""Drafts as people write them, and a small corpus of papers that they cite."""

import json
from pathlib import Path
from typing import Any

LANDMARKS: list[dict[str, Any]] = [
    {
        "id": "arxiv:1706.03762",
        "title": "Attention Is All You Need",
        "abstract": "The Transformer dispenses with recurrence and relies on self-attention for translation.",
        "authors": ["Ashish Vaswani", "Noam Shazeer", "Niki Parmar"],
        "year": 2017,
        "categories": ["cs.CL"],
    },
    {
        "id": "acl:N19-1423",
        "title": "BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding",
        "abstract": "BERT pre-trains bidirectional representations of text by masked language models.",
        "authors": ["Jacob Devlin", "Ming-Wei Chang"],
        "year": 2019,
        "venue": "NAACL",
        "doi": "10.18653/v1/N19-1423",
    },
    {
        "id": "arxiv:1412.6980",
        "title": "Adam: A Method for Stochastic Optimization",
        "abstract": "An optimizer of stochastic objectives with adaptive estimates of lower-order moments.",
        "authors": ["Diederik P. Kingma", "Jimmy Ba"],
        "year": 2014,
        "categories": ["cs.LG"],
    },
    {
        "id": "doi:10.1109/CVPR.2016.90",
        "title": "Deep Residual Learning for Image Recognition",
        "abstract": "Residual connections ease the training of much deeper networks for images.",
        "authors": ["Kaiming He", "Xiangyu Zhang"],
        "year": 2016,
        "venue": "Conference on Computer Vision and Pattern Recognition",
    },
    {
        "id": "arxiv:1406.2661",
        "title": "Generative Adversarial Networks",
        "abstract": "A generator and a discriminator are trained against each other in a minimax game.",
        "authors": ["Ian J. Goodfellow"],
        "year": 2014,
    },
    {
        "id": "arxiv:1312.6114",
        "title": "Auto-Encoding Variational Bayes",
        "abstract": "Variational inference of latent variables by reparameterization of the lower bound.",
        "authors": ["Diederik P. Kingma", "Max Welling"],
        "year": 2013,
    },
    {
        "id": "arxiv:1503.02531",
        "title": "Distilling the Knowledge in a Neural Network",
        "abstract": "The knowledge of an ensemble is distilled into a small model by soft targets.",
        "authors": ["Geoffrey Hinton"],
        "year": 2015,
    },
    {
        "id": "arxiv:1207.0580",
        "title": "Improving neural networks by preventing co-adaptation of feature detectors",
        "abstract": "Dropout omits half of the units at random on each training case.",
        "authors": ["Geoffrey Hinton"],
        "year": 2012,
    },
]

MAIN = r"""% A draft of NeurIPS: \cite{} in a comment is no mark, [CITE] neither
\documentclass{article}
\usepackage[final]{neurips_2026}
\usepackage{natbib,xspace}
\newcommand{\ours}{\textsc{Citer}\xspace}
\newcommand{\seecite}[1]{(see \citealp{#1})}
\title{\ours{}: Where a \emph{Citation} Belongs\thanks{Work in progress.}}
\author{A. Author \And B. Author}
\begin{document}
\maketitle
\begin{abstract}
  We put citations where they belong.
  It takes a draft and a corpus.
\end{abstract}
\input{sections/introduction}
\include{sections/method.tex}
\input{sections/lost}

\section{Experiments}
We train with the Adam optimizer of adaptive moments~\citep[e.g.,][Sec.~2]{TODO}, as others do
% the old sentence: \citep{?}
by default. Half of the units are omitted by dropout \seecite{}, i.e. at random.
\begin{verbatim}
\cite{} and [CITE] are how a mark is written.
\end{verbatim}
\begin{lstlisting}[language=TeX]
text \citep{?}
\end{lstlisting}
The mark \verb|\cite{}| is \lstinline!\cite{?}! here, and 5\% of \url{http://x.org/[CITE]} too.
\iffalse an older version [CITE] \fi
The bound $\mathcal{L}(\theta)$ of variational inference \todo{cite} has a latent variable $z$.
\bibliographystyle{plainnat}
\bibliography{references}
\end{document}
After the end, [CITE] is no mark.
"""

INTRODUCTION = (
    "\\section{Introduction}\r\n"
    "Self-attention without recurrence \\citep{vaswani2017attention, ?} gave the Transformer "
    "for translation.\r\n"
    "\\citet{} pre-trained bidirectional representations with masked language models, na\u00efvely put.\r\n"
    "\r\n"
    "Residual connections [CITE] ease the training of deeper networks for images (Fig.~\\ref{fig:a}).\r\n"
    "Generative models have been trained as an adversarial game by many researchers.\r\n"
)

METHOD = r"""\section{Method}
A small model is taught the knowledge of an ensemble by distillation with soft targets
\citep{vaswani2017attention}.
An \emph{unclosed group {is no fault of the reader: the generator and the discriminator
play a minimax game [citation needed]. [CITE] showed that residual networks recognise images.
"""

REFERENCES = r"""@article{vaswani2017attention,
  title = {Attention is All you Need},
  author = {Vaswani, Ashish and Shazeer, Noam},
  journal = {arXiv preprint arXiv:1706.03762},
  year = {2017},
}

@inproceedings{resnet,
  title = "Deep Residual Learning for Image Recognition",
  author = "He, Kaiming",
  doi = {10.1109/cvpr.2016.90},
  year = 2016
}
"""

MARKDOWN = """---
title: "A *pandoc* draft"
abstract: |
  Of marks in Markdown.
bibliography: references.bib
---

# Introduction

Self-attention without recurrence [@vaswani2017attention; @?] gave the Transformer for translation.
BERT pre-trains *bidirectional* representations [see @TODO, p. 4].

[CITE] ease the training of deeper residual
networks for images, as @he2016 did; write to someone@example.org, see @fig:one.

```
[CITE] and [@?] in code
```

The mark is `[CITE]`. <!-- [@?] is commented out --> A [cite](https://x.org/a) is a link.
Half of the units are omitted by dropout (CITE).
"""


def write_draft(folder: Path) -> Path:
    """The LaTeX draft with its sections (one in Latin-1 with CRLF) and its .bib file; gives the main file."""
    (folder / "sections").mkdir(parents=True)
    (folder / "main.tex").write_bytes(MAIN.encode())
    (folder / "sections" / "introduction.tex").write_bytes(INTRODUCTION.encode("latin-1"))
    (folder / "sections" / "method.tex").write_bytes(METHOD.encode())
    (folder / "references.bib").write_bytes(REFERENCES.encode())
    return folder / "main.tex"


def write_markdown(folder: Path) -> Path:
    """The Markdown draft and its .bib file."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "paper.md").write_bytes(MARKDOWN.encode())
    (folder / "references.bib").write_bytes(REFERENCES.encode())
    return folder / "paper.md"


def write_landmarks(path: Path) -> Path:
    """The corpus of LANDMARKS."""
    path.write_text("".join(json.dumps(paper) + "\n" for paper in LANDMARKS), encoding="utf-8")
    return path
