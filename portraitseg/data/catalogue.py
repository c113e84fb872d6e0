"""Public sets by name: licence, citation, and where they are to be had. `python -m train data` fetches them.

Addresses and checksums are those that the sets' authors, or TensorFlow Datasets, publish. A set that asks for consent,
an account or a form is not fetched: its steps are printed, and what the user puts there is checked.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from portraitseg.manifest import Use
from portraitseg.terms import Terms


@dataclass(frozen=True)
class Archive:
    """A file to fetch and to unpack.

    Attributes:
        url: where it lies.
        hash: `sha256:…` or `md5:…`, as published.
        bytes: its size.
    """

    url: str
    hash: str
    bytes: int

    @property
    def name(self) -> str:
        """Of the file."""
        return self.url.rpartition("/")[2]


@dataclass(frozen=True)
class Entry:
    """A public set.

    Attributes:
        title: what it is, in a line.
        format: of `DATASETS`.
        licence, use: what binds it.
        citation: as its authors ask for.
        page: where people read about it.
        archives: what is fetched; none where it takes consent or an account.
        steps: how to get it by hand.
        root: the folder within DATA that the format reads.
        photos: split → how many photos it has when it is whole, as published.
    """

    title: str
    format: str
    licence: str
    use: Use
    citation: str
    page: str
    archives: tuple[Archive, ...] = ()
    steps: tuple[str, ...] = ()
    root: str = ""
    photos: Mapping[str, int] = field(default_factory=dict)

    @property
    def terms(self) -> Terms:
        """For the manifest."""
        return Terms(licence=self.licence, use=self.use, citation=self.citation)


_COCO, _ZIPS = "http://images.cocodataset.org", "http://images.cocodataset.org/zips"

CATALOGUE: dict[str, Entry] = {
    "coco": Entry(
        title="COCO 2017: 118,000 photos of everyday scenes, 64,000 with persons as polygons; many small ones",
        format="coco",
        licence="annotations CC BY 4.0; photos of Flickr, each under its own terms, unclear for commercial use",
        use="unknown",
        citation="T.-Y. Lin et al., Microsoft COCO: Common Objects in Context, ECCV 2014",
        page="https://cocodataset.org",
        archives=(
            Archive(
                f"{_COCO}/annotations/annotations_trainval2017.zip",
                "sha256:113a836d90195ee1f884e704da6304dfaaecff1f023f49b6ca93c4aaae470268",
                252_907_541,
            ),
            Archive(
                f"{_ZIPS}/val2017.zip",
                "sha256:4f7e2ccb2866ec5041993c9cf2a952bbed69647b115d0f74da7ce8f4bef82f05",
                815_585_330,
            ),
            Archive(
                f"{_ZIPS}/train2017.zip",
                "sha256:69a8bb58ea5f8f99d24875f21416de2e9ded3178e903f1f7603e283b9e06d929",
                19_336_861_798,
            ),
        ),
    ),
    "voc": Entry(
        title="PASCAL VOC 2012: 2,913 photos with masks of twenty classes, person among them",
        format="voc",
        licence="photos of Flickr under its terms, unclear for commercial use",
        use="unknown",
        citation="M. Everingham et al., The PASCAL Visual Object Classes Challenge: A Retrospective, IJCV 111, 2015",
        page="http://host.robots.ox.ac.uk/pascal/VOC/voc2012",
        archives=(
            Archive(
                "http://host.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar",
                "sha256:e14f763270cf193d0b5f74b169f44157a4b0c6efa708f4dd0ff78ee691763bcb",
                1_999_639_040,
            ),
        ),
        root="VOCdevkit/VOC2012",
        photos={"train": 1464, "val": 1449},
    ),
    "p3m10k": Entry(
        title="P3M-10k: 10,421 portraits with mattes, faces of the training photos blurred",
        format="p3m10k",
        licence="release agreement of the authors (MIT by its title; photos of the web): unclear for commercial use",
        use="unknown",
        citation="J. Li, S. Ma, J. Zhang, D. Tao, Privacy-Preserving Portrait Matting, ACM MM 2021",
        page="https://github.com/JizhiziLi/P3M",
        steps=(
            "read and accept the release agreement on the page",
            "download P3M-10k from the link beside it and unpack it",
            "DATA is the folder that holds train/ and validation/",
        ),
        photos={"test_p3m_500_p": 500, "test_p3m_500_np": 500},
    ),
    "ppm100": Entry(
        title="PPM-100: a benchmark of 100 portraits with fine mattes",
        format="ppm100",
        licence="mattes CC BY-NC-SA 4.0; photos of Flickr under Creative Commons",
        use="non-commercial",
        citation="Z. Ke et al., MODNet: Real-Time Trimap-Free Portrait Matting via Objective Decomposition, AAAI 2022",
        page="https://github.com/ZHKKKe/PPM",
        steps=("download PPM-100 from the page and unpack it", "DATA is the folder that holds image/ and matte/"),
        photos={"test_ppm_100": 100},
    ),
    "easyportrait": Entry(
        title="EasyPortrait: 20,000 (later 40,000) video-call portraits with face parsing",
        format="easyportrait",
        licence="a variant of CC BY-SA 4.0, with terms of its own: unclear for commercial use",
        use="unknown",
        citation="A. Kapitanov et al., EasyPortrait: Face Parsing and Portrait Segmentation Dataset, 2023",
        page="https://github.com/hukenovs/easyportrait",
        steps=(
            "read the licence on the page",
            "download images.zip and annotations.zip and unpack both",
            "DATA is the folder that holds images/ and annotations/, each with train/, val/ and test/",
        ),
    ),
    "aisegment": Entry(
        title="AISegment: 34,427 half-body portraits of 600x800 with mattes",
        format="aisegment",
        licence="none stated; photos of Flickr, Baidu and Taobao",
        use="unknown",
        citation="AISegment.com, Matting Human Datasets, 2019",
        page="https://github.com/aisegmentcn/matting_human_datasets",
        steps=(
            "download it from one of the links on the page (Kaggle asks for an account) and unpack it",
            "DATA is the folder that holds clip_img/ and matting/",
        ),
    ),
    "supervisely": Entry(
        title="Supervisely Person: 5,711 photos with 6,884 persons",
        format="supervisely",
        licence="free for academic purposes",
        use="non-commercial",
        citation="Supervisely, Supervisely Person Dataset, 2018",
        page="https://supervisely.com",
        steps=(
            "make an account, clone the project 'Supervisely Person Dataset' and download it as JSON with images",
            "DATA is the folder that holds meta.json",
        ),
    ),
    "eg1800": Entry(
        title="EG1800: portraits of Flickr with hand-made masks, the PFCN data",
        format="eg1800",
        licence="academic, non-commercial",
        use="non-commercial",
        citation="X. Shen et al., Automatic Portrait Segmentation for Image Stylization, Eurographics 2016",
        page="https://www.cse.cuhk.edu.hk/leojia/projects/automatting",
        steps=(
            "ask the authors, or download the data from their page, and unpack it",
            "DATA is the folder that holds images_data_crop/, images_mask/, trainlist.mat and testlist.mat",
        ),
    ),
}

#: Drawn here.
SYNTHETIC = Terms(licence="Apache-2.0 (procedural, of this project)", use="any")


def of_format(name: str) -> Terms | None:
    """What binds the set that a format is of; None of a format that is anybody's."""
    # people lay their own photos out like these
    if name in ("coco", "voc", "supervisely"):
        return None
    return SYNTHETIC if name == "synthetic" else CATALOGUE[name].terms if name in CATALOGUE else None
