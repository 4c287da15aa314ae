"""The names of countries in English, in lower case. The single home of telling a country from a town."""

from typing import Final

COUNTRIES: Final = frozenset(
    """afghanistan,albania,algeria,andorra,angola,argentina,armenia,australia,austria,azerbaijan,bahrain,bangladesh,
    belarus,belgium,belize,benin,bhutan,bolivia,bosnia,botswana,brazil,brunei,bulgaria,burundi,cambodia,cameroon,
    canada,chad,chile,china,colombia,congo,costa rica,croatia,cuba,cyprus,czechia,czech republic,denmark,
    dominican republic,ecuador,egypt,el salvador,england,estonia,ethiopia,fiji,finland,france,gabon,gambia,georgia,
    germany,ghana,greece,guatemala,guinea,guyana,haiti,honduras,hungary,iceland,india,indonesia,iran,iraq,ireland,
    israel,italy,ivory coast,jamaica,japan,jordan,kazakhstan,kenya,kosovo,kuwait,kyrgyzstan,laos,latvia,lebanon,
    liberia,libya,liechtenstein,lithuania,madagascar,malawi,malaysia,maldives,mali,malta,mauritius,mexico,
    moldova,monaco,mongolia,montenegro,morocco,mozambique,myanmar,namibia,nepal,netherlands,the netherlands,
    new zealand,nicaragua,niger,nigeria,north macedonia,norway,oman,pakistan,panama,paraguay,peru,philippines,poland,
    portugal,qatar,romania,russia,rwanda,saudi arabia,scotland,senegal,serbia,slovakia,slovenia,somalia,south africa,
    south korea,spain,sri lanka,sudan,sweden,switzerland,syria,taiwan,tanzania,thailand,togo,tunisia,turkey,uganda,
    ukraine,united arab emirates,united kingdom,great britain,uk,united states,usa,us,uruguay,uzbekistan,venezuela,
    vietnam,wales,yemen,zambia,zimbabwe""".replace("\n    ", "").split(",")
)
