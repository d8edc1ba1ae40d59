"""The vocabulary that all data of this domain are written with."""

from helixwave.data.vocabulary import Vocabulary

from helixwave_domains.genomics.alphabet import BASES, VOCABULARY

DNA = Vocabulary(VOCABULARY, tuple(BASES))
