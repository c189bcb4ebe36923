"""Settings of the topics: names and shapes."""

from __future__ import annotations

from pydantic import Field, PositiveInt
from pydantic_settings import BaseSettings


class TopicSettings(BaseSettings):
    """What the topics are called, and how they are made where they are missing."""

    topic_prefix: str = Field("", description="Put before the name of every topic that has no name of its own below")
    topic_items: str = Field("", description="Name of your items topic; empty: prefix + items")
    topic_clicks: str = Field("", description="Name of your clicks topic; empty: prefix + clicks")
    topic_impressions: str = Field("", description="Name of your impressions topic; empty: prefix + impressions")
    topic_recommendations: str = Field("", description="Name of the output topic; empty: prefix + recommendations")
    topic_erasures: str = Field("", description="Name of the topic of erasures; empty: prefix + erasures")
    topic_dead_letters: str = Field("", description="Name of the dead-letter topic; empty: prefix + dead-letters")
    create_topics: bool = Field(True, description="Create missing topics at start")
    partitions: PositiveInt = Field(6, description="Partitions of clicks where Strata creates it: updaters at most")
    item_partitions: PositiveInt = Field(3, description="Partitions of items where Strata creates it")
    replication: int = Field(-1, ge=-1, description="Copies of each partition; -1: the broker's default")
