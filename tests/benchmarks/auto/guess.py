# ruff: noqa: E501, ISC004 - the lists of words are data
"""
What an expert said of MMLU: groups of its subjects, words for each, and what each gains. He had seen the labels.

``GUESS`` is the part that flatters the figures: whoever wants to know what they are worth without it fits with
``Knobs(guess=None)``, which takes it out everywhere. The groups and the words are his too, and stay.
"""

GUESS = {
    "moral": 0.20,
    "reckoning": 0.03,
    "sciences": 0.15,
    "medicine": 0.13,
    "law": 0.15,
    "economics": 0.12,
    "society": 0.04,
    "humanities": 0.08,
}
"""
The gain that we expected of each group before any label (an expert's guess: a model of 2023 that answers at once gains
most in law, medicine, and the sciences, least where neither can reckon or both know).
"""

SUBJECTS = {
    "moral": ("moral_scenarios", "morally wrong ordinary moral standards scenario main character clearly"),
    "reckoning": ("abstract_algebra college_mathematics college_physics elementary_mathematics"
        " high_school_mathematics high_school_physics math physics", "calculate integer polynomial equation product divided times"
        " solve ring subgroup matrix vector function derivative velocity mass acceleration joules meters seconds triangle circle"
        " degrees square root fraction dollars hours"),
    "sciences": ("college_chemistry high_school_chemistry conceptual_physics electrical_engineering formal_logic"
        " machine_learning college_computer_science econometrics high_school_statistics professional_accounting astronomy"
        " chemistry engineering computer_science", "reaction equilibrium acid base molar electron orbital oxidation circuit"
        " voltage resistance current magnetic light wave frequency star planet orbit telescope logic proposition predicate"
        " premise theorem algorithm binary complexity neural classifier training regression variance hypothesis sample"
        " correlation audit depreciation inventory liability amortization"),
    "medicine": ("anatomy clinical_knowledge college_medicine medical_genetics professional_medicine nutrition"
        " human_sexuality college_biology high_school_biology virology human_aging health biology", "patient diagnosis symptoms"
        " physician blood disease treatment drug therapy muscle nerve artery cell gene chromosome protein enzyme dna mutation"
        " vitamin diet infection bacteria hormone clinical surgery bone kidney heart lung"),
    "law": ("professional_law law", "plaintiff defendant court statute contract tort liability negligence felony"
        " jurisdiction testimony evidence deed landlord buyer seller constitution amendment attorney trial jury appeal breach"
        " damages easement homicide"),
    "economics": ("high_school_macroeconomics high_school_microeconomics economics business", "supply demand price"
        " elasticity monetary fiscal inflation interest marginal cost curve aggregate unemployment tariff monopoly"),
    "society": ("marketing management public_relations sociology us_foreign_policy high_school_government_and_politics"
        " world_religions high_school_geography high_school_psychology business_ethics", "marketing customers brand advertising"
        " manager organization leadership public relations media campaign society social class religion church buddhism islam"
        " hindu foreign policy president congress senate government party country city population psychology freud piaget"
        " memory"),
    "humanities": ("philosophy prehistory moral_disputes logical_fallacies jurisprudence international_law"
        " security_studies high_school_european_history high_school_us_history high_school_world_history computer_security"
        " high_school_computer_science miscellaneous global_facts professional_psychology psychology history other",
        "philosopher kant ethics argument virtue prehistoric archaeological hominid civilization war empire century treaty"
        " international fallacy security computer attack password network film song author"),
}  # fmt: skip
"""Groups of subjects: their names, and words."""

GROUP_OF = {name: group for group, (names, _) in SUBJECTS.items() for name in names.split()}
