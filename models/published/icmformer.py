"""Published iCMFormer files (spec 3): no weights are public, the layout is that of the public code."""

from models.published import plain_vit
from models.published.family import Family

ICMFORMER = Family(prefix="icmformer_vit", reshape=plain_vit.reshape, dead=plain_vit.dead)
