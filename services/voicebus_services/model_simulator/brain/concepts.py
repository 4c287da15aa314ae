"""Everyday English as data: which words speak of the same thing. What verbs do is in `verbs`.

The single home of this knowledge. General English only: no entry exists for the sake of a particular tool. It is whole,
and long, because it is one table of words with a few look-ups behind it.
"""

from functools import lru_cache
from typing import Final

from voicebus_services.model_simulator.brain.tokens import stem, words

# One line, one concept. A word may stand in several lines.
_CONCEPTS: Final = """
weather forecast temperature rain rainy sunny snow wind windy cloudy umbrella storm humid humidity climate
weather temperature degrees hot cold warm outside jacket coat umbrella rain sunscreen
forecast predict prediction outlook upcoming
book reserve reservation booking
schedule appointment meeting event calendar booking agenda
calendar agenda schedule diary busy free availability
meeting call conference sync standup appointment
cost price expensive cheap fee charge rate quote fare pricing
order purchase buy shop checkout
purchase buy get acquire
order parcel package shipment delivery tracking shipping
track tracking locate trace status where
status progress state update
deliver delivery ship shipping arrive dispatch courier
refund return reimburse reimbursement money-back
return exchange send-back
bill invoice statement payment due
pay payment settle bill
balance account funds money
bank account savings checking deposit withdraw
transfer send move wire remit
transaction payment charge purchase spending
spend spending expense cost expenditure
expense receipt reimbursement claim
salary pay wage payslip paycheck payroll
loan credit mortgage borrow lend finance
interest rate apr
currency exchange convert conversion rate money
convert conversion change translate turn
card credit debit visa mastercard
freeze block lock suspend deactivate
lost stolen missing misplaced
stock share ticker equity market trading
stock inventory available availability supply
invest investment portfolio stock fund
insurance policy coverage claim premium
tax vat duty
discount coupon voucher promo promotion deal offer
flight plane fly airline airport airfare travel
train rail railway station
bus coach transit
taxi cab ride uber lift driver pickup
car vehicle automobile auto drive
rent hire lease rental
hotel room accommodation stay lodging motel hostel inn
trip travel journey vacation holiday itinerary
passport visa travel
luggage baggage bag suitcase
seat seating
ticket seat admission booking
ticket issue incident case problem support
route direction navigate navigation way map drive path
distance far kilometer mile long
traffic congestion jam road
parking park garage
fuel gas petrol charge
restaurant table dinner dining eat lunch eatery diner
food meal dish eat hungry cuisine
recipe cook cooking bake ingredient dish meal
menu dish meal food
pizza burger sushi pasta food
drink beverage coffee tea juice
calorie nutrition nutritional diet food
grocery shopping supermarket food
light lamp bulb lighting bright brightness dim
dark light lamp
thermostat temperature heating heat cooling degrees climate warm cold hot warmer cooler
heat heating heater warm
door lock unlock gate entrance
garage door
window blind curtain shade shutter
alarm wake clock
alarm security siren
camera video surveillance
vacuum clean cleaner sweep robot
clean wash tidy
device appliance gadget machine
power electricity energy
switch turn toggle power
volume loud quiet sound louder quieter mute
brightness bright dim brighter dimmer
timer countdown minute stopwatch
remind reminder remember forget
task todo chore to-do
list item
note memo jot write
message text sms send msg
email mail inbox letter
call phone dial ring telephone
contact person friend colleague
contact reach phone number
notify alert notification inform
music song track playlist album artist tune listen band
play listen start
song track tune
podcast episode show listen
movie film cinema theater showtime watch
movie film cinema play show playing screening
show series episode tv television watch
television tv channel
book novel author read reading library
news headline article story happening current
sport game match score team
game play
score result win
doctor physician appointment medical clinic gp
nurse doctor hospital medical
dentist dental tooth teeth
symptom sick ill pain fever hurt ache headache cough sore
medicine medication drug pill prescription dose tablet
prescription refill pharmacy medication
pharmacy drugstore chemist
health medical wellness
exercise workout fitness gym training run
bike bicycle cycle cycling biking ride
run running jog jogging
swim swimming pool
workout run jog swim cycle walk exercise
step walk walking
sleep bed rest nap
weight weigh heavy kilogram pound
heart pulse rate
water hydration drink
leave vacation holiday absence time-off pto day-off
leave sick absence
employee staff worker colleague personnel
manager boss supervisor lead
hire recruit candidate job
job position vacancy role opening career
interview candidate recruit
office workplace desk
password login credential sign-in passcode
reset recover restore forgot
login sign-in log-in access
account profile user
user account member
computer laptop pc machine
printer print printing
internet wifi network connection online
vpn network connection
software application app program install
install setup download
restart reboot
server service system host
outage down offline
error bug issue problem crash fault
problem issue trouble broken fault wrong
broken fix repair faulty damaged
fix repair mend maintenance
technician engineer repairman
support help assistance helpdesk
help assist assistance support
human agent representative person operator
speak talk
complaint complain dissatisfied unhappy feedback
feedback review rating rate opinion
review comment rating feedback
recommend suggest suggestion recommendation advice
search find look lookup seek
find locate search discover
translate translation language
language spanish french german english italian
define definition meaning mean dictionary
spell spelling
explain describe tell
summary summarize summarise brief overview
calculate compute math sum calculation
add plus sum
subtract minus
multiply times
divide
unit measurement convert
time clock hour
timezone zone time
date day calendar
today now current
tomorrow next
birthday anniversary
joke funny humor laugh
fact trivia
quote saying
photo picture image snapshot
photo camera
video clip
file document folder
document paper file
folder directory
upload download
share send
print printer
address location place street
location place where position
city town
country nation
nearby near nearest closest around
store shop outlet market
product item article goods merchandise
size large medium small
color colour
cart basket
wishlist favorite favourite
favorite favourite like
subscribe subscription plan membership
plan subscription tariff package
plan arrange organize
membership member club
unsubscribe cancel
name called title
title name
person people guest passenger attendee
guest people person party
quantity count number amount many
amount sum quantity total much
total sum overall
price cost amount
reason cause why because
description detail details
information info detail details
detail info information
history past previous recent
recent latest last
latest newest recent
old previous former
new fresh
code number id identifier
number id code
weekend saturday sunday
morning afternoon evening night
school class course lesson education
student pupil learner
teacher instructor tutor
grade mark score
homework assignment
course class lesson
exam test quiz
lab test result
test exam check
pet dog cat animal
vet veterinarian pet
plant flower garden
water plant garden irrigate sprinkler
baby child kid
hair haircut salon barber
massage spa
charge battery power
battery charge power
open opening hours
hours opening schedule
close closing shut
emergency urgent police ambulance fire
urgent important priority
priority importance urgency
complete finish done
approve approval accept confirm
reject decline refuse
confirm confirmation
sign signature contract
contract agreement
vote poll survey
donate donation charity give
gift present
party celebration event
event concert show festival gig
concert gig show
museum exhibition gallery
sightseeing attraction tourist landmark
beach sea swim
ski snow
sunrise sunset sun
moon star planet space
air pollution quality
pollen allergy
earthquake disaster
lottery jackpot
horoscope zodiac
stream streaming
post publish tweet
follow subscribe
block ban
voicemail message
missed
report file
report summary
log record entry track
record log save
save store keep
backup save
delete erase
sync synchronize
deploy release rollout
build compile
merge pull request
branch repository repo code
database query table
meter reading consumption usage
usage consumption use data
data internet mobile
sim mobile phone
roaming abroad
tip gratuity
split divide share
owe debt
budget spending limit
limit cap maximum
crypto bitcoin coin
atm cash withdraw
branch office
cheque check
house home apartment property flat
property estate house
landlord tenant rent
moving relocation
warranty guarantee
manual instruction guide
size fit
shoe clothes clothing wear
laundry wash clothes dishwasher
oven stove cook bake
fridge refrigerator
coffee espresso brew
fan air ventilation
air conditioning cooling
""".strip()

# Words that may stand for each other as a choice ("quieter" for `down`); closer than sharing a concept.
_SYNONYMS: Final = """
up louder higher warmer brighter raise increase hotter faster
down quieter lower cooler dimmer reduce decrease softer colder slower
on start activate enable
off stop deactivate disable
small little mini
large big huge
medium regular normal middle
fast quick express rapid
slow standard
cheap economy budget
luxury premium deluxe
high urgent critical important
low minor unimportant
drive driving car
walk walking foot pedestrian
transit bus train public subway metro
cycle cycling bike bicycle
run running jog ran
swim swimming swam
sick ill
vacation holiday leave
broken damaged defective faulty
lost missing misplaced
stolen theft robbed
vegetarian veggie meatless
woman female lady
man male gentleman
child kid
celsius centigrade
morning am
home house
office work
one-way single oneway
return roundtrip round-trip
credit visa mastercard
""".strip()


def _read_groups() -> dict[str, frozenset[int]]:
    groups: dict[str, set[int]] = {}
    for number, line in enumerate(_CONCEPTS.splitlines()):
        for word in line.split():
            groups.setdefault(stem(word), set()).add(number)
    return {word: frozenset(numbers) for word, numbers in groups.items()}


_GROUPS_OF: Final = _read_groups()

LANGUAGES: Final = words(
    """afrikaans albanian arabic armenian basque bengali bulgarian cantonese catalan chinese croatian czech danish
    dutch english estonian finnish french georgian german greek gujarati hebrew hindi hungarian icelandic
    indonesian irish italian japanese korean latin latvian lithuanian malay mandarin mongolian nepali norwegian
    persian polish portuguese punjabi romanian russian serbian slovak slovenian spanish swahili swedish tagalog
    tamil telugu thai turkish ukrainian urdu vietnamese welsh zulu farsi"""
)
COLORS: Final = words(
    """red green blue yellow orange purple violet pink brown black white gray grey beige turquoise cyan magenta
    silver gold golden navy maroon teal ivory lavender crimson"""
)


_SYNONYM_GROUPS: Final = tuple(frozenset(map(stem, line.split())) for line in _SYNONYMS.splitlines())


@lru_cache(maxsize=65536)
def same_choice(left: str, right: str) -> bool:
    """Whether two stems may stand for each other where one of a few constants is chosen."""
    return any(left in group and right in group for group in _SYNONYM_GROUPS)


@lru_cache(maxsize=65536)
def same_concept(left: str, right: str) -> bool:
    """Whether two stems stand in one line of the concepts."""
    return bool(_GROUPS_OF.get(left, frozenset()) & _GROUPS_OF.get(right, frozenset()))
